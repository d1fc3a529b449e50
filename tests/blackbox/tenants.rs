//! Tests of several apps in one server: which of them answers, and that none reaches what another
//! was granted.

use std::fmt::Write;
use std::fs;

use crate::harness::{Client, Process, Start, guest};

/// Says which app answers: each has its own name in its environment.
fn who(client: &mut Client, host: &str, target: &str) -> String {
    let response = client.get_from(host, target);
    match response.status() {
        200 => response
            .text()
            .trim_start_matches("ME=")
            .trim_end()
            .to_owned(),
        status => status.to_string(),
    }
}

fn named(apps: &[(&str, &str)]) -> String {
    apps.iter().fold(String::new(), |mut text, (name, routes)| {
        let component = guest("wasi-environment");
        writeln!(text, "[apps.{name}]\ncomponent = '{component}'\nroutes = [{routes}]\nenv = {{ ME = '{name}' }}")
            .expect("text can be written");
        text
    })
}

#[test]
fn a_request_goes_to_the_app_with_the_most_particular_route() {
    let server = Start::config(&named(&[
        ("root", "'/'"),
        ("api", "'/api'"),
        ("users", "'/api/v2/users'"),
        ("host", "'a.example', 'also.example'"),
        ("hostapi", "'a.example/api'"),
        ("wild", "'*.example'"),
        ("nearer", "'*.b.example'"),
    ]));
    let server = server.start();
    let mut client = server.connect();
    for (host, target, expect) in [
        ("other", "/", "root"),
        ("other", "/apis", "root"),
        ("other", "/api", "api"),
        ("other", "/api?x=/api/v2/users", "api"),
        ("other", "/api/v2/user", "api"),
        ("other", "/api/v2/users/7?q", "users"),
        ("a.example", "/", "host"),
        ("A.EXAMPLE", "/x", "host"),
        ("a.example.", "/x", "host"),
        ("a.example:8080", "/x", "host"),
        ("also.example", "/", "host"),
        ("a.example", "/api/x", "hostapi"),
        ("c.example", "/api", "wild"),
        ("x.b.example", "/", "nearer"),
        ("x.y.b.example", "/", "nearer"),
        ("b.example", "/", "wild"),
        ("example", "/", "root"),
    ] {
        assert_eq!(who(&mut client, host, target), expect, "{host}{target}");
    }
    // The host of an absolute target goes before the field.
    client.send("GET http://a.example/ HTTP/1.1\r\nHost: other\r\n\r\n");
    client.response().is(200, "ME=host\n");
}

#[test]
fn a_request_without_an_app_is_404() {
    let server = Start::config(&named(&[("blog", "'blog.example/posts'")])).start();
    for (host, target) in [
        ("other", "/posts"),
        ("blog.example", "/"),
        ("blog.example", "/postsx"),
    ] {
        server.connect().get_from(host, target).is_own(404);
    }
    assert_eq!(
        who(&mut server.connect(), "blog.example", "/posts/1"),
        "blog"
    );
    let mut client = server.connect();
    client.send("GET /posts HTTP/1.0\r\n\r\n");
    client.response().is_own(404);
}

#[test]
fn a_route_that_is_there_twice_is_an_error() {
    let ended = Start::config(&named(&[("one", "'/x'"), ("two", "'/x/'")])).run();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(
        ended.line().contains("`/x` is already that of apps.one"),
        "{ended:?}"
    );
}

#[test]
fn a_hundred_apps_are_served_by_the_same_workers() {
    let text = (0..100).fold(String::new(), |mut text, number| {
        let name = format!("app-{number}");
        let routes = format!("'/{number}', 'h{number}.example'");
        text += &named(&[(&name, &routes)]);
        text
    });
    let server = Start::config(&text).args(["-w", "2"]).start();
    let mut client = server.connect();
    for number in 0..100 {
        assert_eq!(
            who(&mut client, "any", &format!("/{number}")),
            format!("app-{number}")
        );
        assert_eq!(
            who(&mut client, &format!("h{number}.example"), "/"),
            format!("app-{number}")
        );
    }
    assert_eq!(who(&mut client, "any", "/100"), "404");
}

#[test]
fn each_app_sees_only_its_own_environment() {
    let server = Start::config(
        "[apps.one]\ncomponent = '{wasi-environment}'\nroutes = ['/one']\nenv = { SECRET = 'of one' }\n\
         [apps.two]\ncomponent = '{wasi-environment}'\nroutes = ['/two']\nenv = { OTHER = 'of two' }\n\
         [apps.none]\ncomponent = '{wasi-environment}'\nroutes = ['/none']\n",
    );
    let server = server.env("SECRET", "of the server").start();
    let mut client = server.connect();
    for _ in 0..3 {
        client.get("/one").is(200, "SECRET=of one\n");
        client.get("/two").is(200, "OTHER=of two\n");
        client.get("/none").is(200, "");
    }
}

#[test]
fn each_app_reaches_only_its_own_directories() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["one", "two"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("file"), format!("of {name}")).unwrap();
    }
    fs::write(folder.path().join("outside"), "of nobody").unwrap();
    std::os::unix::fs::symlink(
        folder.path().join("outside"),
        folder.path().join("one/link"),
    )
    .unwrap();
    let at = folder.path().display();
    let server = Start::config(&format!(
        "[apps.one]\ncomponent = '{{wasi-files}}'\nroutes = ['/one']\ndirs = ['{at}/one::/data']\n\
         [apps.two]\ncomponent = '{{wasi-files}}'\nroutes = ['/two']\ndirs = ['{at}/two::/data:ro', '{at}/one::/more:ro']\n\
         [apps.none]\ncomponent = '{{wasi-files}}'\nroutes = ['/none']\n",
    ));
    let server = server.start();
    let mut client = server.connect();
    client.get("/one").is(200, "/data\n");
    client.get("/none").is(200, "");
    client.get("/one?path=/data/file").is(200, "of one");
    client.get("/two?path=/data/file").is(200, "of two");
    client.get("/two?path=/more/file").is(200, "of one");
    client.get("/one?path=/data&list").is(200, "file\nlink\n");
    client.get("/one?path=/more/file").is(403, "not-granted\n");
    client.get("/none?path=/data/file").is(403, "not-granted\n");
    client.get("/one?path=/etc/passwd").is(403, "not-granted\n");
    for path in [
        "/data/../two/file",
        "/data/../outside",
        "/data/link",
        "/data//etc/passwd",
        "/data/../../../../etc/passwd",
    ] {
        let response = client.get(&format!("/one?path={path}"));
        assert!(
            [403, 404].contains(&response.status()),
            "{path}: {response:?}"
        );
    }
    client
        .get("/one?path=/data/new&write=hello")
        .is(200, "wrote 5\n");
    assert_eq!(
        fs::read_to_string(folder.path().join("one/new")).unwrap(),
        "hello"
    );
    client.get("/two?path=/more/new").is(200, "hello");
    for target in [
        "/two?path=/data/new&write=x",
        "/two?path=/more/new&write=x",
        "/two?path=/more/new&remove",
    ] {
        assert_eq!(client.get(target).status(), 403, "{target}");
    }
    assert!(!folder.path().join("two/new").exists());
    client
        .get("/one?path=/data/new&remove")
        .is(200, "removed\n");
    assert!(!folder.path().join("one/new").exists());
    assert_eq!(
        Process::find(server.worker()).unwrap().threads,
        1,
        "files are worked on by another thread"
    );
}

#[test]
fn a_directory_that_is_not_there_is_told_before_serving() {
    let ended = Start::app("wasi-files")
        .args(["--dir", "/no/such/folder::/data"])
        .run();
    assert!([Some(4), Some(5)].contains(&ended.code), "{ended:?}");
    assert!(ended.stderr.contains("/no/such/folder"), "{ended:?}");
    assert!(!ended.stderr.contains("Serving HTTP"), "{ended:?}");
}

#[test]
fn sockets_are_not_for_guests() {
    let upstream = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = upstream.local_addr().unwrap().port();
    let allowed = format!("http://127.0.0.1:{port}");
    let server = Start::app("wasi-connect")
        .args(["--outbound", &allowed])
        .start();
    let response = server.get(&format!("/?port={port}"));
    assert_eq!(response.status(), 403, "{response:?}");
    upstream.set_nonblocking(true).unwrap();
    assert!(upstream.accept().is_err(), "a connection came");
}

#[test]
fn limits_of_one_app_are_not_those_of_another() {
    let server = Start::config(
        "timeout = 60\n\
         [apps.short]\ncomponent = '{wasi-sleep}'\nroutes = ['/short']\ntimeout = '200ms'\n\
         [apps.long]\ncomponent = '{wasi-sleep}'\nroutes = ['/long']\n\
         [apps.small]\ncomponent = '{app-echo}'\nroutes = ['/small']\nrequest-body-limit = 3\n\
         [apps.large]\ncomponent = '{app-echo}'\nroutes = ['/large']\n",
    );
    let server = server.start();
    server.get("/short?ms=600").is_own(504);
    server.get("/long?ms=600").is(200, "slept 600 ms\n");
    server.connect().post("/small", "abcd").is_own(413);
    assert_eq!(server.connect().post("/large", "abcd").status(), 200);
}
