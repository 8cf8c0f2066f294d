# Sourced by what calls uv: uv brings a list of certificates of its own, but a machine may be behind a proxy
# that looks into TLS, and trust it. Its own store is asked where it has one: with an empty one uv gives up.
if [ -z "${UV_SYSTEM_CERTS:-}" ]; then
    for store in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem; do
        if [ -s "$store" ]; then export UV_SYSTEM_CERTS=1; fi
    done
fi
