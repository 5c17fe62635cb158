# SPDX-License-Identifier: Apache-2.0
"""The published Python client, unchanged, with nothing but another base_url. Needs a package index;
without one the same calls are emulated in test_adafruit.py."""
import subprocess
import sys
import textwrap

import pytest

PACKAGE = "adafruit-io==3.0.0"


@pytest.fixture(scope="module")
def client_python(tmp_path_factory):
    home = tmp_path_factory.mktemp("client")
    packages = home / "packages"
    run = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                          "--retries", "0", "--timeout", "10", "--target", str(packages), PACKAGE],
                         capture_output=True, text=True, timeout=120)
    if run.returncode != 0:
        pytest.skip("no package index: " + run.stderr.strip().splitlines()[-1][:200])

    def run_script(owner, url, script):
        code = "from Adafruit_IO import Client, Data, Feed, Group, RequestError, ThrottlingError\n" + \
            f"aio = Client({owner.name!r}, {owner.key!r}, base_url={url!r})\n" + textwrap.dedent(script)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
                              env={"PYTHONPATH": str(packages), "PATH": "/usr/bin"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run_script


def test_life_of_a_feed(client_python, server, owner):
    client_python(owner, server.url, """
        feed = aio.create_feed(Feed(name='Client Feed'))
        assert feed.key == 'client-feed', feed
        assert 'client-feed' in [f.key for f in aio.feeds()]
        assert aio.feeds('client-feed').name == 'Client Feed'
        sent = aio.send_data('client-feed', 42)
        assert aio.receive('client-feed').value == '42'
        assert aio.receive('client-feed').id == sent.id
        aio.send_data('client-feed', 'text', {'lat': 1.5, 'lon': 2.5, 'ele': 3, 'created_at': None})
        got = aio.receive('client-feed')
        assert (got.value, got.lat, got.lon, got.ele) == ('text', 1.5, 2.5, 3), got
        aio.append('client-feed', 7)
        assert [d.value for d in aio.data('client-feed')] == ['7', 'text', '42']
        assert aio.data('client-feed', sent.id).value == '42'
        aio.delete('client-feed', sent.id)
        assert [d.value for d in aio.data('client-feed')] == ['7', 'text']
        aio.delete_feed('client-feed')
        try:
            aio.feeds('client-feed')
        except RequestError as e:
            assert '404' in str(e)
        else:
            raise AssertionError('the feed is still there')
    """)


def test_batches_and_pages(client_python, server, owner):
    client_python(owner, server.url, """
        aio.create_feed(Feed(name='paged'))
        for begin in range(0, 1200, 400):
            aio.send_batch_data('paged', [Data(value=i) for i in range(begin, begin + 400)])
        for wanted in (1, 100, 1000, 1001, 1199):
            got = [d.value for d in aio.data('paged', max_results=wanted)]
            assert got == [str(i) for i in range(1199, 1199 - wanted, -1)], (wanted, len(got))
        assert len(aio.data('paged', max_results=5000)) == 1200
    """)


def test_groups_and_readers(client_python, server, owner):
    client_python(owner, server.url, """
        group = aio.create_group(Group(name='Client Group'))
        assert group.key == 'client-group', group
        feed = aio.create_feed(Feed(name='In Group'), 'client-group')
        assert feed.key == 'client-group.in-group', feed
        assert 'client-group' in [g.key for g in aio.groups()]
        assert aio.groups('client-group').name == 'Client Group'
        aio.send_batch_data(feed.key, [Data(value=i) for i in range(3)])
        assert [aio.receive_next(feed.key).value for _ in range(2)] == ['0', '1']
        assert aio.receive_previous(feed.key).value == '1'
        assert aio.receive_next(feed.key).value == '2'
        assert len(aio.data(feed.key, max_results=None)) == 3
        aio.delete_group('client-group')
        for gone in (lambda: aio.groups('client-group'), lambda: aio.feeds(feed.key)):
            try:
                gone()
            except RequestError as e:
                assert '404' in str(e)
            else:
                raise AssertionError('it is still there')
    """)


def test_time(client_python, server, owner):
    client_python(owner, server.url, """
        import time
        from datetime import datetime, timezone
        from zoneinfo import ZoneInfo
        for zone in (None, 'UTC', 'America/New_York'):
            got = aio.receive_time(zone)
            now = datetime.now(ZoneInfo(zone or 'UTC'))
            made = datetime(*got[:6], tzinfo=now.tzinfo)
            assert abs((made - now).total_seconds()) < 5, (got, now)
            assert (got.tm_yday, got.tm_isdst) == (now.timetuple().tm_yday, now.timetuple().tm_isdst), (got, now)
    """)


def test_errors(client_python, make_server):
    from conftest import owner_on
    server = make_server()
    owner = owner_on(server, "a")
    client_python(owner, server.url, """
        for call in (lambda: aio.receive('none'), lambda: aio.send_data('none', 1),
                     lambda: aio.delete_feed('none'), lambda: aio.data('none', '0' * 26)):
            try:
                call()
            except RequestError as e:
                assert '404' in str(e), e
            else:
                raise AssertionError('no error')
        try:
            Client(aio.username, 'wrong', base_url=aio.base_url).feeds()
        except RequestError as e:
            assert 'invalid API key provided' in str(e)
        else:
            raise AssertionError('a wrong key was taken')
    """)
    server.add_account("slow", limits="5/60s")
    owner.name, owner.key = "slow", server.add_key("slow")
    client_python(owner, server.url, """
        aio.create_feed(Feed(name='t'))
        try:
            for i in range(10):
                aio.send_data('t', i)
        except ThrottlingError:
            pass
        else:
            raise AssertionError('never throttled')
    """)
