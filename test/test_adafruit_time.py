# SPDX-License-Identifier: Apache-2.0
"""Adafruit's time service, beside Python's own idea of time zones."""
import re
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests

from conftest import owner_on

ZONES = Path("/usr/share/zoneinfo")
NAMES = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca",
         "America/St_Johns", "Etc/GMT+12", "Asia/Tokyo"]


def ask(owner, form, **query):
    r = requests.get(f"{owner.url}/integrations/time/{form}", params=query, headers=owner.key_auth, timeout=10)
    assert r.headers["Cache-Control"] == "no-store"
    return r


def close_to_now(t):
    assert abs((t - datetime.now(timezone.utc)).total_seconds()) < 5, t


def test_without_a_key(server):
    """As devices without any credential, and Adafruit's older Python client, ask for it."""
    def get(form):
        r = requests.get(f"{server.url}/api/v2/time/{form}", timeout=10)
        assert r.status_code == 200 and r.headers["Content-Type"] == "text/plain; charset=utf-8", r.text
        return r.text
    assert abs(int(get("seconds")) - time.time()) < 5
    assert abs(int(get("millis")) / 1000 - time.time()) < 5 and len(get("millis")) == 13
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", get("ISO-8601"))
    close_to_now(datetime.strptime(get("ISO-8601"), "%Y-%m-%dT%H:%M:%S.%f%z"))
    assert int(get("hours")) in {datetime.now(timezone.utc).hour, (datetime.now(timezone.utc) - timedelta(seconds=5)).hour}
    assert requests.get(f"{server.url}/api/v2/time/strftime", timeout=10).status_code == 401
    assert requests.get(f"{server.url}/api/v2/time/weeks", timeout=10).status_code == 401  # nothing is told


def test_with_a_key(owner):
    assert abs(int(ask(owner, "seconds").text) - time.time()) < 5
    assert abs(int(ask(owner, "millis").text) / 1000 - time.time()) < 5
    assert ask(owner, "ISO-8601").text.endswith("Z")
    now = ask(owner, "struct.json").json()
    assert set(now) == {"year", "mon", "mday", "hour", "min", "sec", "wday", "yday", "isdst"} and now["isdst"] == 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \d{3} [1-7] \+0000 UTC", ask(owner, "strftime").text)
    assert requests.get(f"{owner.url}/integrations/time/struct", timeout=10).status_code == 401
    r = requests.get(f"{owner.url.replace(owner.name, 'nobody')}/integrations/time/struct", headers=owner.key_auth, timeout=10)
    assert r.status_code == 404


@pytest.mark.skipif(not ZONES.is_dir(), reason="no tzdata here")
@pytest.mark.parametrize("name", NAMES)
def test_zones(owner, name):
    zone = ZoneInfo(name)
    for _ in range(2):  # read from its file, and from memory
        got = datetime.strptime(ask(owner, "ISO-8601", tz=name).text, "%Y-%m-%dT%H:%M:%S.%f%z")
        close_to_now(got)
        local = got.astimezone(zone)
        assert got.utcoffset() == local.utcoffset()
        s = ask(owner, "struct", tz=name).json()
        close_to_now(datetime(s["year"], s["mon"], s["mday"], s["hour"], s["min"], s["sec"], tzinfo=zone))
        day = datetime(s["year"], s["mon"], s["mday"])
        assert (s["wday"], s["yday"]) == (day.isoweekday() % 7, day.timetuple().tm_yday)
        assert s["isdst"] == (1 if local.dst() else 0) or name == "Africa/Casablanca"  # negative summer time
        # As the query of Adafruit's PortalBase, which splits the answer at blanks.
        words = ask(owner, "strftime", tz=name, fmt="%Y-%m-%d %H:%M:%S.%L %j %u %z %Z").text.split(" ")
        got = datetime.strptime(" ".join(words[:2]) + words[4], "%Y-%m-%d %H:%M:%S.%f%z")
        close_to_now(got)
        assert words[4:] == [got.astimezone(zone).strftime("%z"), got.astimezone(zone).strftime("%Z")]
        assert int(ask(owner, "hours", tz=name).text) in range(24)
        assert abs(int(ask(owner, "seconds", tz=name).text) - time.time()) < 5


@pytest.mark.parametrize("tz", ["../../../etc/passwd", "/etc/passwd", "Europe/../Europe/Berlin", "a" * 65, "Europe/", " ", "%00",
                                "Europe/Ber\nlin", ".", "~root"])
def test_names_that_are_none(owner, tz):
    r = ask(owner, "struct", tz=tz)
    assert r.status_code == 400 and "tz" in r.json()["error"], r.text


def test_zones_that_are_not_there(owner):
    for tz in ("Mars/Olympus", "Europe", "Europe/Berlin/Mitte", "leapseconds", "posix/Europe/Berlin", "right/UTC"):
        r = ask(owner, "struct", tz=tz)
        assert r.status_code == 404 and f'no time zone "{tz}"' in r.json()["error"], r.text
    assert ask(owner, "strftime", fmt="x" * 257).status_code == 400
    assert ask(owner, "strftime", fmt="%64c" * 64).status_code == 200
    assert requests.get(f"{owner.url}/integrations/time/strftime?fmt=%ff", headers=owner.key_auth, timeout=10).status_code == 400


def test_a_machine_without_zones(make_server, tmp_path):
    (tmp_path / "zones").mkdir()
    (tmp_path / "zones" / "Broken").write_bytes(b"TZif2" + bytes(39))
    server = make_server({"time.zones": str(tmp_path / "zones")})
    owner = owner_on(server, "a")
    r = ask(owner, "struct", tz="Broken")
    assert r.status_code == 500 and '"Broken" cannot be used' in r.json()["error"], r.text
    server = make_server({"time.zones": str(tmp_path / "none")})
    owner = owner_on(server, "a")
    r = ask(owner, "struct", tz="Europe/Berlin")
    assert r.status_code == 404 and "has no time zones" in r.json()["error"], r.text
    assert ask(owner, "struct", tz="UTC").status_code == 200
    assert ask(owner, "struct").status_code == 200
