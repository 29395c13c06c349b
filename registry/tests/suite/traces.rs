//! Traces reach a collector, as parts of the client's own.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Takes one request and returns its head and body.
async fn receive(listener: &TcpListener) -> (String, Vec<u8>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    loop {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else {
            continue;
        };
        let head = String::from_utf8(bytes[..end].to_vec())
            .unwrap()
            .to_lowercase();
        let length: usize = (head.lines())
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if bytes.len() >= end + 4 + length {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            return (head, bytes[end + 4..].to_vec());
        }
    }
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn requests_become_spans_of_the_clients_trace() {
    let collector = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", collector.local_addr().unwrap());
    let mut child = Command::new(env!("CARGO_BIN_EXE_deploy-registry"))
        .args(["-addr", "127.0.0.1:0", "-memory", "-anonymous", "write"])
        .env_remove("RUST_LOG")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=mine")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let url = loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0);
        if let Some((_, address)) = line.split_once("listening address=") {
            break format!("http://{}", address.split_whitespace().next().unwrap());
        }
    };
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client
        .get(format!("{url}/v2/a/manifests/none"))
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 404);
    // Its end sends what is left, whether or not a batch was due before.
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let (head, body) = receive(&collector).await;
    assert!(head.starts_with("post /v1/traces http/1.1"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf"),
        "{head}"
    );
    assert!(head.contains("x-tenant: mine"), "{head}");
    let ids: Vec<u8> = (0..16)
        .map(|place| u8::from_str_radix(&trace[2 * place..2 * place + 2], 16).unwrap())
        .collect();
    for part in [
        &ids[..],
        b"GET manifest",
        b"deploy-registry",
        b"http.response.status_code",
        b"/v2/a/manifests/none",
        // The operation of the store below it.
        b"repos/a/_tags/none",
    ] {
        let shown = String::from_utf8_lossy(part);
        assert!(holds(&body, part), "no `{shown}` in what arrived");
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
