# Varnish 7. Start it with room for long tokens, as it takes 8 KiB for a header:
#
#     varnishd -a :8000 -f /etc/varnish/subjobs.vcl -p http_req_hdr_len=64k -p http_req_size=96k \
#         -p workspace_client=256k -p workspace_backend=256k

vcl 4.1;

backend subjobs {
    .host = "127.0.0.1";
    .port = "8080";
    .connect_timeout = 2s;
    # The server answers within 10 s, and keeps idle connections for 75 s.
    .first_byte_timeout = 15s;
}

sub vcl_recv {
    # A count is exact at the moment of asking, so nothing is kept. Returning here also leaves out what comes built in, which
    # puts Host in lower case (signatures cover it) and forwards unknown methods blindly.
    return (pass);
}
