"""A stand-in for WhatsApp that the real library talks to, on loopback. docs/whatsapp-server.md says what it plays.

`open_whatsapp_server` (server) is the servers of WhatsApp; a `Person` (people) writes and reads like a phone; `Faults`
(faults) is what goes wrong; `Installation` (installation) is a whole Pynchy that is linked to it.
"""
