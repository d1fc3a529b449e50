//! Tests of HTTP/2's flow control: who holds whom up, and who does not.

use h2::Reason;
use h2::client::Builder;

use crate::h2::cleartext;
use crate::harness::h2::{request, send, whole};
use crate::harness::{Frame, Frames, H2, Start, in_loop, pattern};

#[test]
fn a_client_that_opens_no_window_holds_up_its_own_stream_alone() {
    let server = cleartext(Start::config(
        "min-body-rate = 1000000\n[apps.large]\ncomponent = '{wasi-large}'\n\
         [apps.echo]\ncomponent = '{echo}'\nroutes = ['/echo']\n",
    ));
    in_loop(async {
        let mut settings = Builder::new();
        settings
            .initial_window_size(1000)
            .initial_connection_window_size(1 << 20);
        let client = H2::connect_as(&server, &settings).await;
        let large = request("GET", "/").body(()).unwrap();
        let (stalled, _) = client.begin(large, false).await.unwrap();
        let mut stalled = stalled.await.unwrap().into_body();
        for _ in 0..20 {
            let post = request("POST", "/echo");
            let response = client.ask_with(post, pattern(10_000)).await.unwrap();
            assert_eq!(response.body, pattern(10_000));
        }
        // What it has room for comes; then it is too slow.
        let mut received = 0;
        let error = loop {
            match stalled
                .data()
                .await
                .expect("it does not end as if it were whole")
            {
                Ok(piece) => received += piece.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        assert_eq!(received, 1000);
        client
            .get("/?bytes=26")
            .await
            .is(200, "abcdefghijklmnopqrstuvwxyz");
    });
}

#[test]
fn uploads_that_nobody_reads_hold_up_no_other() {
    let server = cleartext(Start::config(
        "[apps.slow]\ncomponent = '{wasi-sink}'\ntimeout = 0\nrequests-in-flight = 99\n\
         [apps.echo]\ncomponent = '{echo}'\nroutes = ['/echo']\n",
    ));
    in_loop(async {
        let client = H2::connect(&server).await;
        let mut slow = Vec::new();
        for _ in 0..99 {
            let asks = request("POST", "/?delay_ms=86400000").body(()).unwrap();
            let (response, mut sender) = client.begin(asks, true).await.unwrap();
            // More than is read ahead, and as much as the window of the stream takes then.
            send(&mut sender, pattern(125_000).into(), false)
                .await
                .unwrap();
            slow.push((response, sender));
        }
        let post = request("POST", "/echo");
        let response = client.ask_with(post, pattern(1_000_000)).await.unwrap();
        assert!(response.status() == 200 && response.body == pattern(1_000_000));
    });
}

#[test]
fn an_app_that_does_not_read_holds_up_its_own_stream_alone() {
    let server = cleartext(Start::config(
        "[apps.slow]\ncomponent = '{wasi-sink}'\ntimeout = 2\n\
         [apps.echo]\ncomponent = '{echo}'\nroutes = ['/echo']\n",
    ));
    in_loop(async {
        let client = H2::connect(&server).await;
        let asks = request("POST", "/?delay_ms=86400000").body(()).unwrap();
        let (slow, mut sender) = client.begin(asks, true).await.unwrap();
        let upload = async {
            // It ends with the stream.
            assert!(
                send(&mut sender, pattern(10 << 20).into(), true)
                    .await
                    .is_err()
            );
        };
        let others = async {
            for _ in 0..10 {
                let post = request("POST", "/echo");
                let response = client.ask_with(post, pattern(200_000)).await.unwrap();
                assert_eq!(response.body, pattern(200_000));
            }
            whole(slow).await.unwrap().is_own(504);
        };
        tokio::join!(upload, others);
    });
}

#[test]
fn a_body_that_comes_too_slowly_is_408_and_the_connection_lives_on() {
    let server = cleartext(Start::app("echo").args(["--min-body-rate", "1000000"]));
    in_loop(async {
        let client = H2::connect(&server).await;
        let post = request("POST", "/").header("content-length", 5);
        let (response, _sender) = client.begin(post.body(()).unwrap(), true).await.unwrap();
        whole(response).await.unwrap().is_own(408);
        client.get("/").await.is(200, "");
    });
}

#[test]
fn frames_may_be_as_long_as_the_setting_says() {
    const LONGEST: u32 = 100_000;
    let args = [
        "--http2-max-frame-size",
        "100000",
        "--http2-initial-window-size",
        "1000000",
    ];
    let server = cleartext(Start::app("echo").args(args));
    let mut frames = Frames::connect(&server);
    let settings = frames.until("settings", |frame| frame.kind == Frame::SETTINGS);
    assert_eq!(settings.setting(5), Some(LONGEST));
    // They hold from when the client has them.
    frames.send(&Frame::new(Frame::SETTINGS, Frame::ACK, 0, []));
    let longest = vec![b'x'; LONGEST as usize];
    frames.send(&Frame::head(1, 0, &[]));
    frames.send(&Frame::new(
        Frame::DATA,
        Frame::END_STREAM,
        1,
        longest.clone(),
    ));
    frames.answered(1);
    let data = frames.until("data", |frame| frame.kind == Frame::DATA);
    // The client has not said that it takes longer ones.
    assert!(data.payload.len() <= 16_384, "{}", data.payload.len());
    let too_long = [&longest[..], b"x"].concat();
    frames.send(&Frame::head(3, 0, &[]));
    frames.send(&Frame::new(Frame::DATA, 0, 3, too_long));
    assert_eq!(frames.end(), Some(Frame::FRAME_SIZE_ERROR));
}
