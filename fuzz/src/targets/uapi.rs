//! Requests on a lane's userspace API socket.

use hauberk_tunnel::uapi::{Request, UapiError};

use super::Target;

pub(crate) const UAPI: Target = Target {
    name: "uapi",
    about: "requests of `wg` to a lane",
    seeds,
    words: &[
        "get=1\n",
        "set=1\n",
        "\n",
        "=",
        "private_key=",
        "listen_port=",
        "fwmark=",
        "replace_peers=true\n",
        "public_key=",
        "remove=true\n",
        "update_only=true\n",
        "preshared_key=",
        "endpoint=",
        "[::1]:51820",
        "192.0.2.1:51820",
        "persistent_keepalive_interval=",
        "replace_allowed_ips=true\n",
        "allowed_ip=",
        "10.77.0.0/16",
        "fd77::/64",
        "-",
        "65535",
        "65536",
        "protocol_version=1\n",
        KEY,
    ],
    run: |input| {
        // The socket's bytes become text before they come here.
        let text = String::from_utf8_lossy(input);
        let lines = text.lines().count();
        let (kind, line) = match Request::parse(&text) {
            Ok(Request::Get) => return 0,
            Ok(Request::Set(_)) => return 1,
            Err(UapiError::NoOperation) => return 2,
            Err(UapiError::NoValue { line }) => (3, line),
            Err(UapiError::UnknownKey { line }) => (4, line),
            Err(UapiError::BadValue { line }) => (5, line),
        };
        assert!((1..=lines).contains(&line), "the line named is there");
        kind << 8 | line as u64
    },
};

const KEY: &str = "e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a";

fn seeds() -> Vec<Vec<u8>> {
    let set = format!(
        "set=1\nprivate_key={KEY}\nlisten_port=23400\nfwmark=0\nreplace_peers=true\npublic_key={KEY}\n\
         preshared_key={KEY}\nendpoint=192.0.2.1:23400\npersistent_keepalive_interval=25\n\
         replace_allowed_ips=true\nallowed_ip=10.77.2.0/24\nallowed_ip=fd77:2::/64\npublic_key={KEY}\n\
         remove=true\nupdate_only=true\n\n"
    );
    vec![b"get=1\n\n".to_vec(), set.into_bytes()]
}
