//! Tests of the settings as a user meets them: errors with their places, what is shown, and the verbs
//! that serve nothing.

use crate::harness::{Start, guest};

#[test]
fn a_wrong_settings_file_is_exit_code_5_with_all_its_places() {
    let text =
        "workers = 0\nnonsense = 1\n\n[apps.blog]\ncomponent = 'blog.wasm'\n  timeout = 'long'\n";
    let ended = Start::config(text).run();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{ended:?}");
    for (line, place, what) in [
        (lines[0], "rgunicorn.toml:1:", "workers"),
        (lines[1], "rgunicorn.toml:2:1: ", "nonsense"),
        (lines[2], "rgunicorn.toml:6:", "timeout"),
    ] {
        assert!(line.starts_with("rgunicorn: config: "), "{line}");
        assert!(line.contains(place) && line.contains(what), "{line}");
    }
}

#[test]
fn a_settings_file_that_is_no_toml_says_where() {
    let ended = Start::config("workers = 2\nbind = [\n").run();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.line().starts_with("rgunicorn: config: "), "{ended:?}");
    assert!(
        ended.line().contains("rgunicorn.toml:2:") || ended.line().contains("rgunicorn.toml:3:")
    );
}

#[test]
fn a_settings_file_that_is_not_there_is_exit_code_2_or_5() {
    let ended = Start::new("serve").args(["-c", "none.toml"]).run();
    assert!([Some(2), Some(5)].contains(&ended.code), "{ended:?}");
    assert!(ended.line().contains("none.toml"), "{ended:?}");
}

#[test]
fn no_app_is_an_error_that_says_what_to_do() {
    let ended = Start::new("serve").run();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(ended.line().contains("no app to serve"), "{ended:?}");
}

#[test]
fn the_settings_file_of_the_current_folder_is_read() {
    let start = Start::new("serve");
    start.write(
        "rgunicorn.toml",
        &format!(
            "app = '{}'\nenv = {{ A = 'b' }}\n",
            guest("wasi-environment")
        ),
    );
    start.start().get("/").is(200, "A=b\n");
}

#[test]
fn a_later_place_goes_before_an_earlier_one() {
    let show = |start: Start| {
        let ended = start.args(["--print-config"]).run();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let line = ended
            .stdout
            .lines()
            .find(|line| line.starts_with("timeout = "));
        let line = line.unwrap_or_else(|| panic!("{ended:?}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let app = || Start::app("hello");
    let file = |start: Start| {
        let path = start.write("own.toml", "timeout = 3\n");
        start.args(["-c", &path])
    };
    assert!(show(app()).ends_with("# from: default"));
    let environment = || app().env("RGUNICORN_TIMEOUT", "2");
    assert!(show(environment()).ends_with("# from: environment RGUNICORN_TIMEOUT"));
    let in_file = show(file(environment()));
    assert!(
        in_file.contains("# from: file ") && in_file.ends_with("own.toml:1:11"),
        "{in_file}"
    );
    let arguments = || file(environment()).env("RGUNICORN_CMD_ARGS", "--timeout 4");
    assert!(show(arguments()).ends_with("# from: RGUNICORN_CMD_ARGS"));
    assert!(show(arguments().args(["-t", "5"])).ends_with("# from: command line"));
}

#[test]
fn what_is_printed_is_a_settings_file_that_means_the_same() {
    let print = |start: Start| {
        let ended = start.args(["--print-config"]).run();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    };
    let args = [
        "-w",
        "7",
        "-e",
        "A=b c",
        "--dir",
        "/tmp::/data:ro",
        "--outbound",
        "https://*.example.com",
    ];
    let first = print(Start::app("hello").args(args));
    assert!(first.contains("workers = 7"), "{first}");
    let again = Start::new("serve");
    let path = again.write("printed.toml", &first);
    let second = print(again.args(["-c", &path]));
    let values = |text: &str| {
        let lines = text.lines().map(|line| {
            line.split(" # from: ")
                .next()
                .unwrap_or("")
                .trim()
                .to_owned()
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(values(&first), values(&second));
}

#[test]
fn help_and_version_are_no_failures() {
    for args in [&["--help"][..], &["--version"], &["serve", "--help"]] {
        let ended = Start::new(args[0]).args(args[1..].iter().copied()).run();
        assert_eq!(
            (ended.code, ended.stderr.as_str()),
            (Some(0), ""),
            "{args:?}"
        );
        assert!(ended.stdout.contains("rgunicorn"), "{ended:?}");
    }
}

#[test]
fn check_says_ok_or_each_thing_that_is_wrong() {
    let ended = Start::new("check").args([guest("echo")]).run();
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "ok: echo\n"),
        "{ended:?}"
    );
    let text = "[apps.good]\ncomponent = '{hello}'\n\
                [apps.world]\ncomponent = '{load-no-world}'\nroutes = ['/world']\n\
                [apps.import]\ncomponent = '{app-unknown-import}'\nroutes = ['/import']\n\
                [apps.dir]\ncomponent = '{hello}'\nroutes = ['/dir']\ndirs = ['/no/such/folder::/data']\n";
    for start in [
        Start::config(text).args(["--check-config"]),
        check_config(text),
    ] {
        let ended = start.run();
        assert_eq!(ended.code, Some(4), "{ended:?}");
        let lines: Vec<&str> = ended.stderr.lines().collect();
        assert_eq!(lines.len(), 3, "{ended:?}");
        for (line, app, reason) in [
            (lines[0], "apps.dir", "/no/such/folder is not a directory"),
            (lines[1], "apps.import", "acme:kv/store"),
            (lines[2], "apps.world", "wasi:cli/run@0.2.0"),
        ] {
            assert!(line.contains(app) && line.contains(reason), "{line}");
        }
    }
}

fn check_config(text: &str) -> Start {
    let template = Start::new("check");
    let text = text.replace("{hello}", &guest("hello"));
    let text = text.replace("{load-no-world}", &guest("load-no-world"));
    let text = text.replace("{app-unknown-import}", &guest("app-unknown-import"));
    let path = template.write("apps.toml", &text);
    template.args(["-c", &path])
}

#[test]
fn inspect_shows_world_imports_and_what_would_need_to_be_granted() {
    let inspect = |name: &str| Start::new("inspect").args([guest(name)]).run();
    let ours = inspect("app-echo");
    assert_eq!(ours.code, Some(0), "{ours:?}");
    for part in [
        "world:   rgunicorn:http/handler@0.1\n",
        "needs:   nothing\n",
    ] {
        assert!(ours.stdout.contains(part), "{ours:?}");
    }
    let fetch = inspect("wasi-fetch");
    for part in [
        "world:   wasi:http/incoming-handler@0.2\n",
        "wasi:http/outgoing-handler@",
        "--outbound",
    ] {
        assert!(fetch.stdout.contains(part), "{fetch:?}");
    }
    assert!(!fetch.stdout.contains("--dir"), "{fetch:?}");
    let files = inspect("wasi-files");
    assert!(
        files.stdout.contains("--dir") && !files.stdout.contains("--outbound"),
        "{files:?}"
    );
    let module = inspect("hello-module");
    assert!(
        module
            .stdout
            .contains("world:   rgunicorn:http/handler@0.1\n"),
        "{module:?}"
    );
    let other = inspect("load-no-world");
    assert_eq!(other.code, Some(0), "{other:?}");
    assert!(
        other.stdout.contains("world:   none that is served"),
        "{other:?}"
    );
    let text = inspect("load-text");
    assert_eq!(text.code, Some(4), "{text:?}");
    assert!(
        text.line().contains("not a WebAssembly component"),
        "{text:?}"
    );
}
