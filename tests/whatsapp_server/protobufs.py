"""The library's message types, without its shared object in this process."""

from __future__ import annotations

from tests.edges.fake_whatsapp import protobufs_alone

with protobufs_alone():
    from neonize.proto.waAdv.WAAdv_pb2 import (
        ADVDeviceIdentity,
        ADVSignedDeviceIdentity,
        ADVSignedDeviceIdentityHMAC,
    )
    from neonize.proto.waCert.WACert_pb2 import CertChain
    from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import (
        ImageMessage,
        Message,
        ProtocolMessage,
    )
    from neonize.proto.waWa6.WAWebProtobufsWa6_pb2 import ClientPayload, HandshakeMessage

__all__ = [
    "ADVDeviceIdentity",
    "ADVSignedDeviceIdentity",
    "ADVSignedDeviceIdentityHMAC",
    "CertChain",
    "ClientPayload",
    "HandshakeMessage",
    "ImageMessage",
    "Message",
    "ProtocolMessage",
]
