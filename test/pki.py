# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests: an authority, servers with RSA and ECDSA keys, clients, revocation lists."""
import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


def new_key(kind="ec"):
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def subject_of(*common_names):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common_names])


def alternative(name):
    """x509.GeneralName of "host", "192.0.2.1", or a GeneralName as it is."""
    if not isinstance(name, str):
        return name
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem_of(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key, password=None):
    lock = (serialization.BestAvailableEncryption(password) if password
            else serialization.NoEncryption())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)


class Authority:
    def __init__(self, folder, name="Test CA"):
        self.folder = Path(folder)
        self.key = new_key()
        self.name = subject_of(name)
        self.certificate = self._build(self.name, self.key.public_key(), ca=True).sign(self.key, hashes.SHA256())
        self.path = self.folder / f"{name.replace(' ', '-')}.pem"
        self.path.write_bytes(pem_of(self.certificate))

    def _build(self, subject, public, ca=False, days=(-1, 30), names=(), usage=None):
        now = datetime.datetime.utcnow()
        b = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(public)
             .serial_number(x509.random_serial_number())
             .not_valid_before(now + days[0] * DAY).not_valid_after(now + days[1] * DAY)
             .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True))
        if names:
            b = b.add_extension(x509.SubjectAlternativeName([alternative(n) for n in names]), critical=False)
        if usage:
            b = b.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return b

    def make(self, file, names=(), subject=("test",), kind="ec", days=(-1, 30), usage=None, key=None):
        """Writes FILE.pem and FILE.key; (certificate path, key path, the certificate itself)."""
        key = key or new_key(kind)
        certificate = self._build(subject_of(*subject), key.public_key(), days=days, names=names,
                                  usage=usage).sign(self.key, hashes.SHA256())
        paths = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        paths[0].write_bytes(pem_of(certificate))
        paths[1].write_bytes(key_pem(key))
        return *paths, certificate

    def server(self, file, *names, **rest):
        """The pair as tls.certificates wants it."""
        cert, key, _ = self.make(file, names, usage=ExtendedKeyUsageOID.SERVER_AUTH, **rest)
        return f"{cert}:{key}"

    def client(self, file, device, **rest):
        """(certificate path, key path) of a client whose common name is the device."""
        cert, key, _ = self.make(file, subject=(device,), usage=ExtendedKeyUsageOID.CLIENT_AUTH, **rest)
        return str(cert), str(key)

    def revoke(self, *certificates):
        """Writes a list of revoked certificates (paths); its path."""
        now = datetime.datetime.utcnow()
        b = (x509.CertificateRevocationListBuilder().issuer_name(self.name)
             .last_update(now - DAY).next_update(now + 30 * DAY))
        for path in certificates:
            c = x509.load_pem_x509_certificate(Path(path).read_bytes())
            b = b.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(c.serial_number)
                .revocation_date(now - DAY).build())
        path = self.folder / "revoked.pem"
        path.write_bytes(b.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path
