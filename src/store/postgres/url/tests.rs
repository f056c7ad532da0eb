//! Which URLs are accepted, what is printed of them, and that no error or text has a password.

use super::*;

fn parse(url: &str) -> StoreUrl {
    url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn a_url_is_printed_without_its_password_and_parameters() {
    for (url, printed) in [
        ("postgres://u@h/d", "postgres://u@h:5432/d"),
        ("postgresql://u:secret@h/d", "postgres://u@h:5432/d"),
        ("postgres://u:se%40cret%3F@h:1/d?sslmode=require", "postgres://u@h:1/d"),
        ("postgres://u@h/d?password=secret", "postgres://u@h:5432/d"),
        ("postgres://u:secret@h", "postgres://u@h:5432/u"),
        ("postgres://u@a,b:1,[::1]:2/d", "postgres://u@a:5432,b:1,[::1]:2/d"),
        ("postgres://u:secret@%2Frun%2Fpostgresql/d", "postgres://u@%2Frun%2Fpostgresql:5432/d"),
        ("postgres:///d?user=u&host=/run/pg&port=7&password=secret", "postgres://u@%2Frun%2Fpg:7/d"),
        ("postgres://a%20b:secret@h/c%2Fd", "postgres://a%20b@h:5432/c%2Fd"),
        ("postgres://u:secret@h/d?options=-csearch_path%3Dsecret", "postgres://u@h:5432/d"),
    ] {
        let url = parse(url);
        assert_eq!(url.to_string(), printed);
        assert_eq!(format!("{url:?}"), printed);
        let again = parse(printed);
        assert_eq!(again.to_string(), printed, "a printed URL can be parsed");
    }
}

#[test]
fn a_refused_url_is_described_without_its_password() {
    for (url, reason) in [
        ("", "must begin with postgres://"),
        ("host=h user=u password=secret", "must begin with postgres://"),
        ("mysql://u:secret@h/d", "must begin with postgres://"),
        ("postgres://h/d", "must name a user"),
        ("postgres://:secret@h/d", "must name a user"),
        ("postgres://u:secret@/d", "must name a host"),
        ("postgres://u:secret", "invalid value for option `port`"),
        ("postgres://u:sec@ret@h/d", "more than one @"),
        ("postgres://u:p@sec/ret@h/d", "more than one @"),
        ("postgres://u@sec ret/d", "a host is invalid"),
        ("postgres://u:secret@h:port/d", "invalid value for option `port`"),
        ("postgres://u:secret@h:0x1/d", "invalid value for option `port`"),
        ("postgres://u@h/d?port=1,2", "one port, or as many as hosts"),
        ("postgres://u:secret@h/d?sslrootcert=secret", "the parameter \"sslrootcert\" is unknown"),
        ("postgres://u:secret@h/d?hostaddr=1.2.3.4", "the parameter \"hostaddr\" is unknown"),
        ("postgres://u:secret@h/d?sslmode=secret", "sslmode must be"),
        ("postgres://u:secret@h/d?sslmode=allow", "sslmode must be"),
        ("postgres://u:secret@h/d?sslmode=prefer", "sslmode=prefer does not protect"),
        ("postgres://u:secret@127.0.0.1,h/d?sslmode=prefer", "sslmode=prefer does not protect"),
        ("postgres://u:secret@h/d?target_session_attrs=any", "must be read-write"),
        ("postgres://u:secret@h/d?target_session_attrs=read-only", "must be read-write"),
        ("postgres://u:secret@h/d?options=-c%20synchronous_commit%3Doff", "synchronous_commit must be one of"),
        ("postgres://u:secret@h/d?options=-csynchronous_commit=local", "synchronous_commit must be one of"),
        ("postgres://u:secret@h/d?options=--synchronous_commit=0", "synchronous_commit must be one of"),
        ("postgres://u:secret@h/d?options=-c%20synchronous_commit%3D'off'", "synchronous_commit must be one of"),
        ("postgres://u:%ffsecret@h/d?connect_timeout=secret", "invalid value for option `connect_timeout`"),
    ] {
        let error = url.parse::<StoreUrl>().unwrap_err().to_string();
        assert!(error.contains(reason), "{url}: {error}");
        let printed = error.replace("sslrootcert", "");
        assert!(!printed.contains("secret") && !printed.contains("ret@"), "{url}: {error}");
    }
}

#[test]
fn connections_to_other_machines_are_encrypted_unless_the_url_disables_it() {
    for (url, encrypted) in [
        ("postgres://u@h/d", &[true][..]),
        ("postgres://u@192.0.2.1/d", &[true]),
        ("postgres://u@localhost/d", &[false]),
        ("postgres://u@127.0.0.7/d", &[false]),
        ("postgres://u@[::1]/d", &[false]),
        ("postgres://u@%2Frun/d", &[false]),
        ("postgres://u@h,localhost,%2Frun/d", &[true, false, false]),
        ("postgres://u@h,localhost,%2Frun/d?sslmode=require", &[true, true, false]),
        ("postgres://u@h,localhost/d?sslmode=verify-full", &[true, true]),
        ("postgres://u@h,localhost/d?sslmode=disable", &[false, false]),
        ("postgres://u@localhost,%2Frun/d?sslmode=prefer", &[false, false]),
    ] {
        let url = parse(url);
        let found: Vec<_> = url.endpoints().iter().map(|endpoint| endpoint.is_encrypted).collect();
        assert_eq!(found, encrypted, "{url}");
        for endpoint in url.endpoints() {
            let expected = if endpoint.is_encrypted { SslMode::Require } else { SslMode::Disable };
            assert_eq!(url.config(endpoint).get_ssl_mode(), expected);
        }
    }
}

#[test]
fn a_connection_has_what_the_url_says() {
    let url = parse(
        "postgres://u:p%40ss@a:1,b:2/d?target_session_attrs=read-write&options=-csynchronous_commit%3Dremote_apply&\
         connect_timeout=7&application_name=x&channel_binding=require",
    );
    assert!(url.has_password() && !parse("postgres://u@h/d").has_password());
    let config = url.config(&url.endpoints()[1]);
    assert_eq!((config.get_user(), config.get_password()), (Some("u"), Some(&b"p@ss"[..])));
    assert_eq!((config.get_hosts(), config.get_ports()), (&[Host::Tcp("b".into())][..], &[2][..]));
    assert_eq!((config.get_dbname(), config.get_application_name()), (Some("d"), Some("x")));
    assert_eq!(config.get_options(), Some("-csynchronous_commit=remote_apply"));
    assert_eq!(config.get_connect_timeout().map(|timeout| timeout.as_secs()), Some(7));
    assert_eq!(parse("postgres://u@h/d").config.get_application_name(), Some("subjobs"));
}
