//! Checks the configuration as a whole: precedence, apps, what is shown, and the corpora in
//! tests/config.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Command;

use crate::access::Format;

use super::*;

/// One way to start the server, in a folder of its own.
struct Start<'s> {
    arguments: &'s [&'s str],
    environment: &'s [(&'s str, &'s str)],
    file: Option<&'s str>,
}

impl Start<'_> {
    const NOTHING: Start<'static> = Start {
        arguments: &[],
        environment: &[],
        file: None,
    };

    fn load(&self) -> Result<Config, Errors> {
        let folder = tempfile::tempdir().unwrap();
        if let Some(text) = self.file {
            fs::write(folder.path().join("rgunicorn.toml"), text).unwrap();
        }
        load_in(folder.path(), self.arguments, self.environment)
    }

    fn error(&self) -> String {
        self.load().unwrap_err().to_string()
    }
}

fn load_in(
    folder: &Path,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<Config, Errors> {
    let command = Command::new("serve").no_binary_name(true);
    let command = command.args(command_args()).args(verb_args());
    let matches = command.try_get_matches_from(arguments).unwrap();
    let variable = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    load(&matches, environment.iter().map(variable), folder)
}

fn corpus(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(kind)
}

fn toml_files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".toml"));
    names.sort();
    names
}

/// Set `RGUNICORN_BLESS=1` to write the .err files; then read them.
#[test]
fn invalid_files_have_these_errors() {
    let folder = corpus("invalid");
    let names = toml_files(&folder);
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        let errors = load_in(&folder, &["-c", &name], &[]).expect_err(&name);
        let text = format!("{errors}\n");
        let expected = folder.join(&name).with_extension("err");
        if std::env::var_os("RGUNICORN_BLESS").is_some() {
            fs::write(&expected, &text).unwrap();
        }
        assert_eq!(
            text,
            fs::read_to_string(&expected).unwrap_or_default(),
            "{name}"
        );
        assert!(
            errors
                .iter()
                .all(|error| error.to_string().lines().count() == 1)
        );
    }
}

#[test]
fn valid_files_load_and_what_is_shown_loads_to_the_same() {
    let folder = corpus("valid");
    let names = toml_files(&folder);
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        let config = load_in(&folder, &["-c", &name], &[]).unwrap_or_else(|e| panic!("{e}"));
        reads_back(config);
    }
}

#[test]
fn the_errors_of_a_file_that_is_cut_off_are_inside_it() {
    let folder = corpus("valid");
    for name in toml_files(&folder) {
        let text = fs::read_to_string(folder.join(&name)).unwrap();
        for (end, _) in text.char_indices() {
            let part = &text[..end];
            let (_, errors) = file::parse(part, &name, &folder);
            let lines: Vec<_> = part.split('\n').map(|line| line.chars().count()).collect();
            for error in errors {
                let Some(Origin::File { line, column, .. }) = error.origin else {
                    panic!("{error}")
                };
                assert!(column <= lines[line - 1] + 1, "{error} in {part:?}");
            }
        }
    }
}

/// Checks that a configuration that is shown and read again is the same but for its origins.
fn reads_back(mut config: Config) {
    let shown = config.print();
    let file = Some(shown.as_str());
    let mut again = Start {
        file,
        ..Start::NOTHING
    }
    .load()
    .unwrap_or_else(|e| panic!("{e}"));
    for config in [&mut config, &mut again] {
        config.file = None;
        config.origins.clear();
        config.apps.iter_mut().for_each(|app| app.origins.clear());
    }
    assert_eq!(config, again, "{shown}");
}

#[test]
fn the_defaults() {
    let folder = Path::new("/nowhere");
    let environment = [("XDG_CACHE_HOME", "/cache")];
    let config = load_in(folder, &["dir/../Hello.wasm"], &environment).unwrap();
    let expect = Config {
        file: None,
        bind: vec![BindAddress::Tcp {
            host: "127.0.0.1".into(),
            port: 8000,
        }],
        workers: cpus(),
        worker_connections: 1000,
        accept: AcceptMode::Auto,
        worker_class: WorkerClass::Async,
        worker_requests: 1000,
        backlog: 2048,
        defer_accept: false,
        graceful_timeout: Duration::from_secs(30),
        keep_alive: Duration::from_secs(75),
        boot_timeout: Duration::from_secs(60),
        heartbeat_timeout: Some(Duration::from_secs(30)),
        max_requests: None,
        max_requests_jitter: 0,
        max_worker_lifetime: None,
        max_worker_memory: None,
        worker_memory_measure: MemoryMeasure::Pss,
        worker_memory_samples: 3,
        worker_memory_interval: Duration::from_secs(10),
        max_unavailable: 0,
        upgrade_mode: UpgradeMode::Auto,
        upgrade_timeout: Duration::from_secs(300),
        reload: false,
        reload_extra_files: Vec::new(),
        head_timeout: Duration::from_secs(10),
        min_body_rate: Some(240),
        body_memory: 128 << 20,
        limit_request_line: 4094,
        limit_request_fields: 100,
        limit_request_field_size: 8190,
        server_header: true,
        tls: tls_by_default(),
        http2: http2_by_default(),
        proxies: proxies_by_default(),
        log_level: LogLevel::Info,
        error_logfile: None,
        access_logfile: None,
        access_logformat: logformat_by_default(),
        log_syslog: false,
        log_syslog_to: SyslogTo::Unix("/dev/log".into()),
        log_syslog_prefix: "rgunicorn".into(),
        log_syslog_facility: Facility::User,
        cache_dir: Some("/cache/rgunicorn".into()),
        compile_timeout: Duration::from_secs(300),
        compile_memory: 4 << 30,
        pidfile: None,
        daemon: false,
        user: None,
        group: None,
        umask: None,
        chdir: None,
        proc_name: "rgunicorn".into(),
        control_socket: None,
        apps: vec![only_app_by_default(config.apps[0].origins.clone())],
        origins: config.origins.clone(),
    };
    assert_eq!(config, expect);
    reads_back(config);
}

fn logformat_by_default() -> Format {
    Format::parse(r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#).unwrap()
}

fn tls_by_default() -> Tls {
    Tls {
        certfile: Vec::new(),
        keyfile: Vec::new(),
        ca_certs: None,
        cert_reqs: CertReqs::None,
        min_version: TlsVersion::Tls12,
        http_protocols: HttpProtocols::H2H1,
    }
}

fn http2_by_default() -> Http2 {
    Http2 {
        cleartext: Http2Cleartext::Off,
        max_concurrent_streams: 100,
        initial_window_size: 65_535,
        max_frame_size: 16_384,
        max_header_list_size: 65_536,
    }
}

fn proxies_by_default() -> Proxies {
    let this_machine = ["127.0.0.1/32", "::1/128"].map(|network| network.parse().unwrap());
    Proxies {
        forwarded_allow_ips: this_machine.to_vec(),
        secure_scheme_headers: [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-protocol", "ssl"),
            ("x-forwarded-ssl", "on"),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into(),
        protocol: ProxyProtocol::Off,
        protocol_allow_from: this_machine.to_vec(),
        root_path: String::new(),
    }
}

fn only_app_by_default(origins: resolved::Origins) -> App {
    App {
        name: "hello".into(),
        component: "/nowhere/dir/../Hello.wasm".into(),
        routes: vec![Route {
            host: HostPattern::Any,
            path: "/".into(),
        }],
        env: Vec::new(),
        dirs: Vec::new(),
        outbound: Vec::new(),
        limits: AppLimits {
            timeout: Some(Duration::from_secs(30)),
            cpu_timeout: Duration::from_secs(10),
            memory: 256 << 20,
            request_body: Some(100 << 20),
            buffered_body: 8 << 20,
            read_ahead: 64 << 10,
            response_body: None,
            requests_in_flight: 64,
            request_queue: 1024,
            guest_log: 64 << 10,
        },
        origins,
    }
}

#[test]
fn a_later_source_goes_before_an_earlier_one() {
    // Sources by precedence, each with the number of workers that it writes.
    let environment = [
        ("WEB_CONCURRENCY", "2"),
        ("RGUNICORN_WORKERS", "3"),
        ("RGUNICORN_CMD_ARGS", "-w 5"),
    ];
    let arguments = ["a.wasm", "-w", "6"];
    for count in 1..=5 {
        let config = Start {
            arguments: &arguments[..if count == 5 { 3 } else { 1 }],
            environment: &environment[..match count {
                1 | 2 => count,
                3 => 2,
                _ => 3,
            }],
            file: (count >= 3).then_some("workers = 4"),
        };
        let workers = config.load().unwrap().workers;
        assert_eq!(workers as usize, count + 1);
    }
}

#[test]
fn a_list_replaces_that_of_an_earlier_source() {
    let start = Start {
        arguments: &["a.wasm", "-e", "A=1", "-e", "B=2"],
        environment: &[("PORT", "5000"), ("RGUNICORN_ENV", "C=3")],
        file: Some("bind = [':1', ':2']\nenv = { D = 4 }"),
    };
    let config = start.load().unwrap();
    let bind: Vec<_> = config.bind.iter().map(ToString::to_string).collect();
    assert_eq!(bind, ["0.0.0.0:1", "0.0.0.0:2"]);
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(config.apps[0].env, [pair("A", "1"), pair("B", "2")]);
}

#[test]
fn the_table_of_an_app_goes_before_every_source() {
    let start = Start {
        arguments: &["--timeout", "5", "--outbound", "*"],
        environment: &[],
        file: Some(
            "timeout = 7\ncpu-timeout = 1\n[apps.a]\ncomponent = 'a'\nroutes = '/a'\n\
             timeout = '250ms'\noutbound = []\n[apps.b]\ncomponent = 'b'\n",
        ),
    };
    let config = start.load().unwrap();
    let [a, b] = config.apps.as_slice() else {
        panic!("{:?}", config.apps)
    };
    assert_eq!(a.limits.timeout, Some(Duration::from_millis(250)));
    assert_eq!(b.limits.timeout, Some(Duration::from_secs(5)));
    assert_eq!(a.limits.cpu_timeout, Duration::from_secs(1));
    assert_eq!((a.outbound.len(), b.outbound.len()), (0, 1));
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file_or_at_the_current_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir(at("conf")).unwrap();
    let text = "app = './a.wasm'\nbind = 'unix:s'\ncache-dir = 'c'\ndirs = ['d::/d']\n";
    fs::write(at("conf/f.toml"), text).unwrap();
    let file = ["-c", "conf/f.toml"];
    let config = load_in(folder.path(), &file, &[]).unwrap();
    assert_eq!(config.apps[0].component, at("conf/a.wasm"));
    assert_eq!(config.bind, [BindAddress::Unix(at("conf/s"))]);
    assert_eq!(config.cache_dir, Some(at("conf/c")));
    assert_eq!(config.apps[0].dirs[0].host, at("conf/d"));

    let arguments = [&file[..], &["./b.wasm", "-b", "unix:s"]].concat();
    let environment = [("RGUNICORN_CMD_ARGS", "--dir d::/d")];
    let config = load_in(folder.path(), &arguments, &environment).unwrap();
    assert_eq!(config.apps[0].component, at("b.wasm"));
    assert_eq!(config.bind, [BindAddress::Unix(at("s"))]);
    assert_eq!(config.apps[0].dirs[0].host, at("d"));
}

#[test]
fn paths_start_at_the_same_folders_with_chdir() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir(at("conf")).unwrap();
    let text = "app = 'a.wasm'\nchdir = '/var/lib'\ncontrol-socket = 's'\npidfile = 'p'\n";
    fs::write(at("conf/f.toml"), text).unwrap();
    let arguments = ["-c", "conf/f.toml", "-p", "p", "--reload-extra-file", "e"];
    let environment = [("RGUNICORN_ERROR_LOGFILE", "l")];
    let config = load_in(folder.path(), &arguments, &environment).unwrap();
    assert_eq!(config.chdir, Some("/var/lib".into()));
    assert_eq!(config.apps[0].component, at("conf/a.wasm"));
    assert_eq!(config.control_socket, Some(at("conf/s")));
    assert_eq!(config.pidfile, Some(at("p")));
    assert_eq!(config.reload_extra_files, [at("e")]);
    assert_eq!(config.error_logfile, Some(at("l")));
}

#[test]
fn the_same_arguments_load_again_after_the_file_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rgunicorn.toml");
    let command = Command::new("serve").no_binary_name(true);
    let matches = command
        .args(command_args())
        .try_get_matches_from(["a.wasm", "--keep-alive", "5"])
        .unwrap();
    let load = || load(&matches, [], folder.path());
    let first = load().unwrap();
    assert_eq!((first.file.as_deref(), first.workers), (None, cpus()));

    fs::write(&file, "workers = 7\nkeep-alive = 6\ndaemon = true\n").unwrap();
    let second = load().unwrap();
    assert_eq!((second.file.as_deref(), second.workers), (Some(&*file), 7));
    assert_eq!(second.keep_alive, first.keep_alive);
    assert_eq!(second.apps[0].component, first.apps[0].component);
    assert_eq!(first.restart_only_changes(&second), ["daemon"]);

    fs::write(&file, "workers = 0").unwrap();
    let expect = "rgunicorn.toml:1:11: workers: `0` is outside of 1 to 1024";
    assert_eq!(load().unwrap_err().to_string(), expect);
}

#[test]
fn what_takes_effect_only_at_a_start_is_told_and_nothing_else() {
    let load = |text| {
        let start = Start {
            arguments: &["/a.wasm"],
            environment: &[],
            file: Some(text),
        };
        start.load().unwrap()
    };
    let old = load("");
    assert_eq!(old.restart_only_changes(&old), [""; 0]);
    // Written, but to the same: nothing waits for a start.
    let same = load("umask = 'none'\nreload = false\nproc-name = 'rgunicorn'");
    assert_eq!(old.restart_only_changes(&same), [""; 0]);
    let other = load("workers = 9\ntimeout = 1\nmax-unavailable = 1\nbind = ':1'");
    assert_eq!(old.restart_only_changes(&other), [""; 0]);
    let new = load(
        "control-socket = '/s'\nproc-name = 'x'\nchdir = '/'\numask = 0o0\ngroup = 0\n\
         user = 'u'\ndaemon = true\npidfile = '/p'\nerror-logfile = '/l'\nworkers = 3",
    );
    let expect = [
        "error-logfile",
        "pidfile",
        "daemon",
        "user",
        "group",
        "umask",
        "chdir",
        "proc-name",
        "control-socket",
    ];
    assert_eq!(old.restart_only_changes(&new), expect);
    assert_eq!(new.restart_only_changes(&old), expect);
}

#[test]
fn a_flag_is_bare_or_joined_to_its_value() {
    let daemon = |arguments: &[&str]| {
        let config = Start {
            arguments,
            environment: &[("RGUNICORN_DAEMON", "false")],
            file: Some("daemon = true"),
        };
        config.load().unwrap()
    };
    assert!(daemon(&["a.wasm"]).daemon);
    assert!(!daemon(&["--daemon=false", "a.wasm"]).daemon);
    assert!(!daemon(&["-D", "a.wasm", "--daemon=false"]).daemon);
    // What follows a bare flag is not its value.
    let config = daemon(&["--daemon=false", "-Dw", "3", "--reload", "a.wasm"]);
    assert_eq!(
        (config.daemon, config.reload, config.workers),
        (true, true, 3)
    );
    let error = Start {
        arguments: &["a.wasm", "--reload=maybe"],
        environment: &[("RGUNICORN_DAEMON", "1")],
        file: None,
    };
    let expect = "environment: RGUNICORN_DAEMON: `1` is not true or false\n\
                  command line: --reload: `maybe` is not true or false";
    assert_eq!(error.error(), expect);
}

#[test]
fn a_umask_is_octal_wherever_it_is_written() {
    let umask = |file, arguments| {
        Start {
            arguments,
            environment: &[],
            file: Some(file),
        }
        .load()
        .unwrap()
        .umask
    };
    let none: &[&str] = &["a.wasm"];
    assert_eq!(umask("", none), None);
    assert_eq!(umask("umask = '027'", none), Some(0o27));
    assert_eq!(umask("umask = 0o27", none), Some(0o27));
    assert_eq!(umask("umask = 0o0", none), Some(0));
    assert_eq!(umask("umask = 0o27", &["a.wasm", "-m", "22"]), Some(0o22));
    assert_eq!(umask("umask = 0o27", &["a.wasm", "-m", "none"]), None);
}

#[test]
fn an_app_is_described_by_the_table() {
    let start = Start {
        arguments: &[],
        environment: &[],
        file: Some(
            "[apps.shop]\ncomponent = '/srv/shop.wasm'\nroutes = ['/a/', 'example.com']\n\
             timeout = '250ms'\nmemory-limit = 65536\nenv = { KEY = 'secret' }\n",
        ),
    };
    let described = start.load().unwrap().apps[0].describe();
    assert_eq!(described.name, "shop");
    assert_eq!(described.component, Path::new("/srv/shop.wasm"));
    assert_eq!(described.routes, ["/a", "example.com"]);
    let limits: Vec<_> = described
        .limits
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let expect = [
        ("timeout", "250ms"),
        ("cpu-timeout", "10"),
        ("memory-limit", "64KiB"),
        ("request-body-limit", "100MiB"),
        ("buffered-body-limit", "8MiB"),
        ("request-read-ahead", "64KiB"),
        ("response-body-limit", "0"),
        ("requests-in-flight", "64"),
        ("request-queue", "1024"),
        ("guest-log-limit", "64KiB"),
    ];
    assert_eq!(limits, expect);
    assert!(!format!("{described:?}").contains("secret"));
}

#[test]
fn the_file_is_named_by_the_first_source_that_names_one() {
    let folder = tempfile::tempdir().unwrap();
    for (name, workers) in [("rgunicorn", 1), ("a", 2), ("b", 3), ("c", 4)] {
        let text = format!("app = 'a.wasm'\nworkers = {workers}");
        fs::write(folder.path().join(name).with_extension("toml"), text).unwrap();
    }
    let variable = ("RGUNICORN_CONFIG", "a.toml");
    let extra = ("RGUNICORN_CMD_ARGS", "-c b.toml");
    for (arguments, environment, expect) in [
        (&[][..], &[][..], 1),
        (&[], &[variable], 2),
        (&[], &[variable, extra], 3),
        (&["--config=c.toml"], &[variable, extra], 4),
    ] {
        let config = load_in(folder.path(), arguments, environment).unwrap();
        assert_eq!(config.workers, expect);
    }
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let error = Start {
        arguments: &["-c", "no.toml"],
        ..Start::NOTHING
    }
    .error();
    let expect = "no.toml: cannot read the settings file: No such file or directory (os error 2)";
    assert_eq!(error, expect);
}

#[test]
fn without_an_app_the_error_says_what_to_do() {
    let error = Start::NOTHING.error();
    assert!(
        error.starts_with("no app to serve: ") && error.contains("serve app.wasm"),
        "{error}"
    );
}

#[test]
fn an_app_cannot_be_named_beside_the_tables() {
    let file = Some("[apps.a]\ncomponent = 'a'");
    let error = Start {
        arguments: &["b.wasm"],
        file,
        ..Start::NOTHING
    }
    .error();
    assert_eq!(
        error,
        "command line: APP: `b.wasm` cannot be served beside the [apps.NAME] tables of the \
         settings file: leave it out, or give it a table of its own"
    );
    let error = Start {
        environment: &[("RGUNICORN_APP", "b.wasm")],
        file,
        ..Start::NOTHING
    };
    assert!(
        error
            .error()
            .starts_with("environment: RGUNICORN_APP: `b.wasm` cannot")
    );
}

#[test]
fn the_errors_of_all_sources_are_told_at_once() {
    let start = Start {
        arguments: &["-w", "0", "-b", "nope:x", "-b", ":70000", "-t", "1ms"],
        environment: &[
            ("WEB_CONCURRENCY", "many"),
            ("RGUNICORN_CMD_ARGS", "--log-level loud"),
        ],
        file: Some("workrs = 3\nkeep-alive = 'never'\n"),
    };
    let expect = "\
environment: WEB_CONCURRENCY: `many` is not a whole number
rgunicorn.toml:1:1: workrs: unknown setting, did you mean workers?
rgunicorn.toml:2:14: keep-alive: `never` is not a length of time, such as 30 (seconds), 0.5, \
250ms, 5m or 1h
RGUNICORN_CMD_ARGS: --log-level: `loud` is not a log level: trace, debug, info, warn or error
command line: --timeout: `1ms` is outside of 10ms to 24h
command line: --bind: `nope:x` is not an address, such as 127.0.0.1:8000, [::1]:8000, :8000, \
unix:/run/app.sock or fd://3
command line: --bind: `:70000` is not an address, such as 127.0.0.1:8000, [::1]:8000, :8000, \
unix:/run/app.sock or fd://3
command line: --workers: `0` is outside of 1 to 1024";
    assert_eq!(start.error(), expect);
    assert!(
        Start {
            arguments: &["a", "-w", "0"],
            ..Start::NOTHING
        }
        .load()
        .unwrap_err()
        .are_usage()
    );
}

#[test]
fn what_is_shown_says_where_it_was_written() {
    let start = Start {
        arguments: &["a.wasm", "-t", "5", "-Dm", "22"],
        environment: &[("PORT", "0"), ("RGUNICORN_CMD_ARGS", "--backlog 9")],
        file: Some("\nkeep-alive = 1.5\n"),
    };
    let config = start.load().unwrap();
    let shown = config.print();
    for (key, value, source) in [
        ("bind", "[\"0.0.0.0:0\"]", "environment PORT"),
        ("backlog", "9", "RGUNICORN_CMD_ARGS"),
        ("keep-alive", "\"1500ms\"", "file rgunicorn.toml:2:14"),
        ("timeout", "5", "command line"),
        ("cpu-timeout", "10", "default"),
        ("memory-limit", "\"256MiB\"", "default"),
        ("daemon", "true", "command line"),
        ("umask", "\"022\"", "command line"),
        ("error-logfile", "\"-\"", "default"),
        ("pidfile", "\"none\"", "default"),
    ] {
        let start = format!("{key} = {value} ");
        let line = shown.lines().find(|line| line.starts_with(&start));
        let line = line.unwrap_or_else(|| panic!("no {start} in\n{shown}"));
        assert!(line.ends_with(&format!(" # from: {source}")), "{line}");
    }
    assert!(shown.contains("[apps.\"a\"]\n"), "{shown}");
    assert!(config.is_default("cache-dir"));
    assert!(!config.is_default("bind") && !config.is_default("umask"));
}

#[test]
fn every_setting_has_a_default_that_reads_or_needs_none() {
    let config = Start {
        arguments: &["a.wasm"],
        ..Start::NOTHING
    }
    .load()
    .unwrap();
    for setting in table::settings() {
        let written = match setting.scope {
            setting::Scope::OnlyApp => continue,
            setting::Scope::Server(_) => config.origins.get(setting.key),
            setting::Scope::Both(_) | setting::Scope::App(_) => {
                config.apps[0].origins.get(setting.key)
            }
        };
        assert!(written.is_some(), "{}", setting.key);
    }
}

#[test]
fn text_of_every_kind_survives_being_shown() {
    let awkward = "A=quote \" back\\slash\ttab\nline \u{1}\u{7f}\u{85} é 日本 # ] }";
    let start = Start {
        arguments: &[
            "a \"b\".wasm",
            "-e",
            awkward,
            "-e",
            "odd key.\"=x",
            "--cache-dir",
            "none",
            "--log-file",
            "./-",
            "--pidfile",
            "./none",
            "-u",
            "DOMAIN\\web \"user\"",
            "-n",
            "\"\\'",
            "--reload-extra-file",
            "a, b",
            "--reload-extra-file",
            "#",
        ],
        ..Start::NOTHING
    };
    reads_back(start.load().unwrap());
}

#[test]
fn proxies_are_listed_as_in_gunicorn() {
    let allowed = |arguments: &[&str], environment: &[(&str, &str)], file| {
        let start = Start {
            arguments,
            environment,
            file,
        };
        let networks = start.load().unwrap().proxies.forwarded_allow_ips;
        networks.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let both = [("FORWARDED_ALLOW_IPS", "10.0.0.0/8, ::1")];
    assert_eq!(allowed(&["a"], &both, None), ["10.0.0.0/8", "::1/128"]);
    let all = ["a", "--forwarded-allow-ips", "*"];
    assert_eq!(allowed(&all, &both, None), ["0.0.0.0/0", "::/0"]);
    let nobody = Some("forwarded-allow-ips = ''");
    assert_eq!(allowed(&["a"], &both, nobody), [""; 0]);
    let added = [
        "a",
        "--forwarded-allow-ips=10.0.0.1,10.0.0.2",
        "--forwarded-allow-ips=::1",
    ];
    let expect = ["10.0.0.1/32", "10.0.0.2/32", "::1/128"];
    assert_eq!(allowed(&added, &[], None), expect);

    let start = Start {
        arguments: &[
            "a",
            "--proxy-allow-ips=10.0.0.1",
            "--proxy-protocol=v2",
            "--secure-scheme-headers=X-Scheme=https",
        ],
        environment: &[("RGUNICORN_ROOT_PATH", "/shop/")],
        file: None,
    };
    let proxies = start.load().unwrap().proxies;
    assert_eq!(
        proxies.protocol_allow_from,
        ["10.0.0.1/32".parse().unwrap()]
    );
    assert_eq!(proxies.protocol, ProxyProtocol::V2);
    let secure = [("x-scheme".to_owned(), "https".to_owned())];
    assert_eq!(proxies.secure_scheme_headers, secure);
    assert_eq!(proxies.root_path, "/shop");
}
