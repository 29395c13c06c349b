//! Bad input to the command line and over HTTP: one clear line on stderr and exit code 1 or 2, or the right status and
//! code, and nothing is changed.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::io::{Read, Write};
use std::net::TcpListener;

use deploy_tests::archive::Archive;
use deploy_tests::desk::Desk;
use deploy_tests::port::Port;
use deploy_tests::registry::Registry;
use deploy_tests::{http, oci};

/// Runs `deployctl` with bad input, and asserts that it is refused, that the line says `word`, and that the registry
/// keeps what it kept.
#[track_caller]
fn refused(registry: &Registry, desk: &Desk, arguments: &[&str], word: &str) {
    let before = registry.objects();
    let answer = desk.deployctl(arguments.iter().copied()).answer().unwrap();
    answer.assert_is_refusal();
    assert!(answer.stderr.contains(word), "no `{word}` in\n{answer}");
    let difference = before.difference(&registry.objects());
    assert_eq!(difference, "", "{answer}");
}

#[test]
fn names_and_versions_outside_the_grammar_are_refused() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    desk.write("ok.tar.gz", Archive::new().file("a", "a").gzip());
    let long = "a".repeat(300);
    for name in ["Code", "a b", "", "-a", "a//b", "../a", "a\nb", "ä", &long] {
        refused(
            &registry,
            &desk,
            &[
                "addver",
                "-name",
                name,
                "-version",
                "v9",
                "-file",
                "ok.tar.gz",
            ],
            "name",
        );
        refused(
            &registry,
            &desk,
            &["addconf", "-name", name, "-layer", "code:v1"],
            "name",
        );
        refused(&registry, &desk, &["showcomp", "-name", name], "name");
    }
    for version in ["a b", "", ".a", "a/b", "ä", "a\u{7}", &long] {
        refused(
            &registry,
            &desk,
            &[
                "addver",
                "-name",
                "code",
                "-version",
                version,
                "-file",
                "ok.tar.gz",
            ],
            "version",
        );
        refused(
            &registry,
            &desk,
            &[
                "changeconf",
                "-name",
                "project",
                "-component",
                "code",
                "-version",
                version,
            ],
            "version",
        );
    }
}

#[test]
fn files_that_are_no_archive_are_refused() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let whole = Archive::new().file("a", "a".repeat(100_000)).gzip();
    desk.write("text", "this is no archive\n".repeat(100));
    desk.write("empty", "");
    desk.write("short.tar.gz", &whole[..whole.len() - 20]);
    let tar = Archive::new().file("a", "a".repeat(100_000)).tar();
    desk.write("short.tar", &tar[..50_000]);
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    desk.write("damaged.tar.gz", damaged);
    desk.write(
        "text.gz",
        deploy_tests::archive::gzip(b"text, and no archive, in a proper gzip\n"),
    );
    for file in [
        "text",
        "empty",
        "short.tar.gz",
        "short.tar",
        "damaged.tar.gz",
        "text.gz",
        "missing.tar.gz",
        ".",
    ] {
        refused(
            &registry,
            &desk,
            &["addver", "-name", "code", "-version", "v9", "-file", file],
            file,
        );
    }
}

#[test]
fn unknown_things_and_bad_layers_are_refused() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let unused = "0".repeat(64);
    let cases: &[(&[&str], &str)] = &[
        (&["showcomp", "-name", "nothing"], "nothing"),
        (&["showconf", "-name", "nothing"], "nothing"),
        (&["delcomp", "-name", "nothing"], "nothing"),
        (&["delconf", "-name", "nothing", "-force"], "nothing"),
        (
            &["delver", "-name", "code", "-version", "nothing"],
            "nothing",
        ),
        (&["delver", "-name", "nothing", "-version", "v1"], "nothing"),
        (
            &[
                "changeconf",
                "-name",
                "project",
                "-component",
                "code",
                "-version",
                "nothing",
            ],
            "nothing",
        ),
        (
            &[
                "changeconf",
                "-name",
                "project",
                "-component",
                "nothing",
                "-version",
                "v1",
            ],
            "nothing",
        ),
        (
            &[
                "changeconf",
                "-name",
                "nothing",
                "-component",
                "code",
                "-version",
                "v1",
            ],
            "nothing",
        ),
        (
            &["bumpconf", "-name", "nothing", "-component", "code"],
            "nothing",
        ),
        (
            &["bumpconf", "-name", "project", "-component", "nothing"],
            "nothing",
        ),
        (
            &["addconf", "-name", "other", "-layer", "nothing:v1"],
            "nothing",
        ),
        (
            &["addconf", "-name", "other", "-layer", "code:nothing"],
            "nothing",
        ),
        (&["addconf", "-name", "other", "-layer", "code"], "code"),
        (&["addconf", "-name", "other", "-layer", ":v1"], "layer"),
        (&["addconf", "-name", "other", "-layer", "code:"], "layer"),
        (&["addconf", "-name", "other", "-layer", ""], "layer"),
        (&["addconf", "-name", "other"], "layer"),
        (
            &[
                "addconf", "-name", "other", "-layer", "code:v1", "-layer", "code:v2",
            ],
            "code",
        ),
        (
            &[
                "addver", "-name", "code", "-version", "v9", "-hash", &unused,
            ],
            &unused,
        ),
        (
            &["addver", "-name", "code", "-version", "v9", "-hash", "xyz"],
            "xyz",
        ),
        (&["addver", "-name", "code", "-version", "v9"], "-file"),
        (&["nothing"], "nothing"),
        (&["showconf", "-name", "project", "-nothing"], "nothing"),
    ];
    for (arguments, word) in cases {
        refused(&registry, &desk, arguments, word);
    }
}

#[test]
fn bad_requests_get_the_right_status_and_code() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    let layer = Archive::new().file("a", "a").gzip();
    let repository = "components/code";
    oci::push_blob(desk.address(), repository, &layer).unwrap();
    let before = oci::picture(desk.address()).unwrap();
    let ask = |method: &str, target: &str, body: &[u8]| {
        let headers = [("Content-Type", oci::MANIFEST)];
        let reply = http::request(desk.address(), method, target, &headers, body).unwrap();
        (reply.status, reply.error_code().unwrap_or_default())
    };
    let location = oci::open_upload(desk.address(), repository).unwrap();
    let wrong = oci::with_digest(&location, &oci::digest(b"other bytes"));
    assert_eq!(
        ask("PUT", &wrong, &layer),
        (400, "DIGEST_INVALID".to_owned())
    );
    assert_eq!(
        http::get(
            desk.address(),
            &format!("/v2/{repository}/blobs/{}", oci::digest(b"other bytes"))
        )
        .unwrap()
        .status,
        404
    );

    let missing = oci::artifact(b"never pushed", "").to_string();
    let code = |text: &str| text.to_owned();
    let manifests = format!("/v2/{repository}/manifests");
    assert_eq!(
        ask("PUT", &format!("{manifests}/v9"), missing.as_bytes()),
        (400, code("MANIFEST_BLOB_UNKNOWN"))
    );
    assert_eq!(
        ask("PUT", &format!("{manifests}/v9"), b"{ no json"),
        (400, code("MANIFEST_INVALID"))
    );
    assert_eq!(
        ask("GET", &format!("{manifests}/nothing"), b""),
        (404, code("MANIFEST_UNKNOWN"))
    );
    assert_eq!(
        ask("GET", "/v2/nothing/tags/list", b""),
        (404, code("NAME_UNKNOWN"))
    );
    assert_eq!(
        ask("POST", "/v2/Not/A/Name/blobs/uploads/", b""),
        (400, code("NAME_INVALID"))
    );
    assert_eq!(
        ask(
            "GET",
            &format!("/v2/{repository}/blobs/{}", oci::digest(b"nothing")),
            b""
        ),
        (404, code("BLOB_UNKNOWN"))
    );
    assert_eq!(oci::picture(desk.address()).unwrap(), before);
    assert!(!registry.log().contains("panicked"), "{}", registry.log());
}

#[test]
fn registry_that_is_down_or_answers_html_is_named() {
    let closed = Port::reserve();
    let html = HtmlServer::start();
    for address in [closed.address().to_string(), html.address.clone()] {
        let desk = Desk::at(&address);
        desk.write("ok.tar.gz", Archive::new().file("a", "a").gzip());
        let script = desk.script("deploy.sh", "touch ran");
        for arguments in [
            &["components"][..],
            &["showconf", "-name", "project"],
            &[
                "addver",
                "-name",
                "code",
                "-version",
                "v1",
                "-file",
                "ok.tar.gz",
            ],
            &["addconf", "-name", "project", "-layer", "code:v1"],
        ] {
            let answer = desk.deployctl(arguments.iter().copied()).code(1);
            answer.assert_is_refusal();
            assert!(answer.stderr.contains(&address), "{answer}");
        }
        let answer = desk.agent_once("project", "host", &script).code(1);
        assert!(answer.stderr.contains(&address), "{answer}");
        assert!(!desk.path("ran").exists() && !desk.path("host/current").exists());
    }
}

/// Answers every request with a web page, as a proxy or a wrong port does.
struct HtmlServer {
    address: String,
}

impl HtmlServer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut request = [0; 64 * 1024];
                let _read = stream.read(&mut request);
                let page = "<!doctype html><title>Welcome</title><h1>It works</h1>";
                let length = page.len();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n"
                );
                write!(stream, "{head}Connection: close\r\n\r\n{page}").ok();
            }
        });
        Self { address }
    }
}
