use super::*;

fn read(url: &str) -> RedisConfig {
    RedisConfig::from_url(url).unwrap_or_else(|error| panic!("{url}: {error}"))
}

fn refused(url: &str) -> String {
    let error = RedisConfig::from_url(url).expect_err(url);
    assert_eq!(error.kind(), ErrorKind::Permanent);
    error.to_string()
}

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp {
        host: host.to_owned(),
        port,
    }
}

#[test]
fn a_single_server() {
    let config = read("redis://localhost");
    assert_eq!(config.layout, Layout::Single(tcp("localhost", 6379)));
    assert_eq!((config.database, &config.tls), (0, &None));
    assert_eq!(config.login, Login::default());
    assert_eq!(config, RedisConfig::default());

    let config = read("redis://bob:p%40ss%2F@h:1/3");
    assert_eq!(config.layout, Layout::Single(tcp("h", 1)));
    assert_eq!(config.database, 3);
    assert_eq!(config.login.username.as_deref(), Some("bob"));
    assert_eq!(config.login.password.as_deref(), Some("p@ss/"));

    let config = read("redis://:p@ss@h");
    assert_eq!(config.login.username, None);
    assert_eq!(config.login.password.as_deref(), Some("p@ss"));

    assert_eq!(
        read("redis://[::1]:7/").layout,
        Layout::Single(tcp("::1", 7))
    );
    assert_eq!(
        read("redis://").layout,
        Layout::Single(tcp("localhost", 6379))
    );
    assert_eq!(read("valkey://h?db=4").database, 4);
}

#[test]
fn tls() {
    let config = read("rediss://h?ssl_ca=/a.pem&insecure=true");
    let tls = config.tls.expect("rediss has TLS");
    assert!(tls.insecure);
    assert_eq!(tls.ca, Some(PathBuf::from("/a.pem")));
    assert!(!read("valkeys://h").tls.expect("valkeys has TLS").insecure);
    assert!(
        read("rediss://h?ssl_cert_reqs=none")
            .tls
            .expect("TLS")
            .insecure
    );
    assert!(refused("redis://h?ssl_ca=/a.pem").contains("rediss://"));
}

#[test]
fn unix_sockets() {
    for url in [
        "unix:///run/r.sock?db=2",
        "redis+unix:///run/r.sock?db=2",
        "valkey+unix:///run/r.sock?db=2",
    ] {
        let config = read(url);
        assert_eq!(
            config.layout,
            Layout::Single(Address::Unix("/run/r.sock".into()))
        );
        assert_eq!(config.database, 2);
    }
    let config = read("unix://:secret@/run/a%20b.sock");
    assert_eq!(config.login.password.as_deref(), Some("secret"));
    assert_eq!(
        config.layout,
        Layout::Single(Address::Unix("/run/a b.sock".into()))
    );
    assert!(refused("unix://run/r.sock").contains("three slashes"));
}

#[test]
fn clusters_and_sentinels() {
    assert_eq!(
        read("redis+cluster://a:1,b").layout,
        Layout::Cluster(vec![tcp("a", 1), tcp("b", 6379)])
    );
    assert!(read("valkeys+cluster://a").tls.is_some());
    assert!(refused("redis+cluster://a/2").contains("database"));
    assert!(refused("redis+cluster://").contains("no host"));

    let config = read("rediss+sentinel://u:p@a,b:2/main/5?sentinel_password=s");
    assert_eq!(
        config.layout,
        Layout::Sentinel {
            sentinels: vec![tcp("a", 26379), tcp("b", 2)],
            service: "main".to_owned()
        }
    );
    assert_eq!(config.database, 5);
    assert!(config.tls.is_some());
    assert_eq!(config.sentinel_login.password.as_deref(), Some("s"));
    assert!(refused("redis+sentinel://a").contains("/service"));
    assert!(refused("redis://a,b").contains("redis+cluster"));
}

#[test]
fn mistakes_are_explained() {
    assert!(refused("localhost:6379").contains("redis://host:6379/0"));
    assert!(refused("http://localhost").contains("'http'"));
    assert!(refused("redis://h/x").contains("'x'"));
    assert!(refused("redis://h/0/1").contains("/db"));
    assert!(refused("redis://h:0").contains("port"));
    assert!(refused("redis://::1").contains("brackets"));
    for reqs in ["CERT_REQUIRED", "optional"] {
        let config = read(&format!("rediss://h?ssl_cert_reqs={reqs}"));
        assert!(!config.tls.expect("TLS").insecure);
    }
    assert!(read("redis://h/3?socket_timeout=5&health_check_interval=30").database == 3);
    assert!(refused("redis://h?tiemout=1").contains("'tiemout'"));
    assert!(refused("redis://h?insecure=maybe").contains("maybe"));
    assert!(refused("redis://u@h").contains("without a password"));
    assert!(refused("redis://h/%ff").contains("UTF-8"));
}

#[test]
fn passwords_never_show() {
    for url in [
        "redis://user:hunter2",
        "redis://:hunter2@h:x",
        "redis://:hun/hunter2@h",
        "redis://:hun?hunter2@h",
        "redis://:hun#hunter2@h",
        "redis:/user:hunter2@h",
        "hunter2@h",
        "user:hunter2://x",
        "rediss://:hunter2@h?ssl_cert_reqs=x",
        "redis+sentinel://:hunter2@h",
    ] {
        let shown = refused(url);
        assert!(
            !shown.contains("hunter2") && !shown.contains("hun"),
            "{url}: {shown}"
        );
    }
    let config = read("redis+sentinel://user:hunter2@h/main?sentinel_password=hunter3");
    let shown = format!("{config} {config:?} {:#?}", config.login);
    assert!(
        !shown.contains("hunter") && !shown.contains("user"),
        "{shown}"
    );
}
