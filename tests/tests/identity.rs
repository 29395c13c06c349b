//! Who a registry is and who it knows: its own key or a certificate of an authority, files of keys that change
//! while it runs, and one key for many replicas.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use deploy_tests::desk::Desk;
use deploy_tests::minio::Minio;
use deploy_tests::registry::Registry;
use deploy_tests::replicas::Replicas;
use deploy_tests::{peer_or_skip, wait};

/// A desk with the keys of jane and bob, and jane's in a file of operators.
fn keys() -> (Desk, String) {
    let desk = Desk::at("");
    for name in ["jane", "bob"] {
        let flags = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name];
        desk.run("ssh-keygen").args(flags).ok();
    }
    let operators = desk.write("operators", desk.read("jane.pub"));
    (desk, operators.to_str().unwrap().to_owned())
}

/// A certificate authority and the certificates that it gives out, as OpenSSL makes them.
struct Authority<'a>(&'a Desk);

/// Kinds of keys, as `openssl req` is told them.
const P256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA: &[&str] = &["rsa:2048"];

impl Authority<'_> {
    fn create(desk: &Desk) -> Authority<'_> {
        Self::create_as(desk, "ca")
    }

    fn create_as<'a>(desk: &'a Desk, name: &str) -> Authority<'a> {
        let [key, certificate] = ["key", "crt"].map(|kind| format!("{name}.{kind}"));
        let files = [
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-subj",
            "/CN=authority",
        ];
        let new = desk.run("openssl").args(["req", "-x509", "-newkey"]);
        new.args(P256).args(files).ok();
        Authority(desk)
    }

    /// Makes a certificate for `localhost` with a new key of a kind. Each file is replaced as a whole, the key first.
    fn issue(&self, name: &str, kind: &[&str]) {
        let Self(desk) = self;
        let subject = format!("/CN={name}");
        let new = desk.run("openssl").args(["req", "-newkey"]).args(kind);
        let files = ["-keyout", "new.key", "-out", "new.csr", "-subj", &subject];
        new.arg("-nodes").args(files).ok();
        desk.write("names", "subjectAltName=DNS:localhost\n");
        let sign = [
            "x509", "-req", "-in", "new.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
        ];
        let files = ["-CAcreateserial", "-extfile", "names", "-out", "new.crt"];
        desk.run("openssl").args(sign).args(files).ok();
        for kind in ["key", "crt"] {
            let [from, to] = ["new", "tls"].map(|name| desk.path(&format!("{name}.{kind}")));
            std::fs::rename(from, to).unwrap();
        }
    }
}

#[test]
fn the_key_of_a_registry_is_made_once_and_is_what_ssh_keygen_says() {
    let (desk, operators) = keys();
    let mut registry = Registry::start_with(&["-opauth", &operators]);
    let key = registry.directory().join("host_key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let public = [
        "ec",
        "-in",
        key.to_str().unwrap(),
        "-pubout",
        "-out",
        "host.pem",
    ];
    desk.run("openssl").args(public).ok();
    let openssh = desk
        .run("ssh-keygen")
        .args(["-i", "-m", "PKCS8", "-f", "host.pem"]);
    desk.write("host.pub", openssh.ok().stdout);
    let shown = desk
        .run("ssh-keygen")
        .args(["-l", "-f", "host.pub"])
        .ok()
        .stdout;
    let fingerprint = registry.fingerprint();
    assert!(shown.contains(&fingerprint), "{shown}");
    registry.kill();
    registry.restart();
    assert_eq!(registry.fingerprint(), fingerprint);
}

#[test]
fn a_certificate_of_an_authority_is_served_and_read_again_when_it_changes() {
    let (desk, operators) = keys();
    let authority = Authority::create(&desk);
    authority.issue("first", P256);
    let [certificate, key] = ["tls.crt", "tls.key"].map(|name| desk.path(name));
    let registry = Registry::start_with(&[
        "-opauth",
        &operators,
        "-tls-cert",
        certificate.to_str().unwrap(),
        "-tls-key",
        key.to_str().unwrap(),
    ]);
    let address = registry.address().replace("127.0.0.1", "localhost");
    // What is asked for, in which version of HTTP, of which certificate.
    let curl = |flags: &[&str]| {
        let shown = "%{http_code} %{http_version} %{certs}";
        let run = desk.run("curl").args(["-sS", "-o", "answer", "-w", shown]);
        let run = run.args(["--cacert", "ca.crt"]).args(flags);
        run.arg(format!("https://{address}/healthz")).ok().stdout
    };
    let (newer, older) = (curl(&[]), curl(&["--http1.1"]));
    assert!(
        newer.starts_with("200 2 ") && newer.contains("CN = first"),
        "{newer}"
    );
    assert!(older.starts_with("200 1.1 "), "{older}");
    // Whom the system trusts is trusted, and nobody else is: then the message says what could be pinned.
    let list = |roots: &str| {
        let address = format!("https://{address}");
        let run = desk.deployctl(["-addr", &address, "-key", "jane", "configurations"]);
        run.env("SSL_CERT_FILE", desk.path(roots)).answer().unwrap()
    };
    assert!(list("ca.crt").succeeded());
    Authority::create_as(&desk, "other");
    let refused = list("other.crt");
    assert!(
        !refused.succeeded() && refused.stderr.contains("-fp SHA256:"),
        "{refused}"
    );
    authority.issue("second", RSA);
    wait::until_true("the new certificate is served", || {
        curl(&[]).contains("CN = second")
    });
    // A key that no registry of ours makes has no fingerprint to pin.
    let refused = list("other.crt");
    assert!(
        !refused.succeeded() && refused.stderr.contains("in SSL_CERT_FILE"),
        "{refused}"
    );
    assert!(!refused.stderr.contains("-fp"), "{refused}");
    // What is of no use changes nothing.
    desk.write("tls.crt", "no certificate\n");
    wait::until_true("the log says so", || {
        registry.log().contains("everything stays as it was")
    });
    assert!(curl(&[]).contains("CN = second"));
}

#[test]
fn keys_are_known_from_when_they_are_in_the_file_until_they_are_not() {
    let (desk, operators) = keys();
    let registry = Registry::start_with(&["-opauth", &operators]);
    let (address, fingerprint) = (registry.address(), registry.fingerprint());
    let gets_in = |key: &str| {
        let flags = ["-addr", &address, "-fp", &fingerprint, "-key", key];
        let run = desk.deployctl(flags).arg("configurations");
        run.answer().unwrap().succeeded()
    };
    let [jane, bob] = ["jane.pub", "bob.pub"].map(|name| desk.read(name));
    // Beside the file, then in its place, as editors and configuration management write.
    let replace = |content: String| {
        let new: PathBuf = desk.write("operators.new", content);
        std::fs::rename(new, &operators).unwrap();
    };
    assert!(gets_in("jane") && !gets_in("bob"));
    replace(format!("{jane}# a comment\n\n{bob}"));
    wait::until_true("bob is let in", || gets_in("bob"));
    assert!(gets_in("jane"));
    replace(format!("{bob}ssh-ed25519 nonsense jane\n"));
    wait::until_true("the log names the line", || {
        registry.log().contains("line 2")
    });
    assert!(gets_in("jane") && gets_in("bob"));
    replace(bob);
    wait::until_true("jane is not let in any more", || !gets_in("jane"));
    assert!(gets_in("bob"));
}

#[test]
fn replicas_with_one_key_are_one_registry() {
    let minio = Minio::start(&peer_or_skip!(
        "replicas_with_one_key_are_one_registry",
        "minio"
    ));
    let (desk, operators) = keys();
    let key = [
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        "host_key",
    ];
    desk.run("openssl").args(key).ok();
    desk.run("chmod").args(["600", "host_key"]).ok();
    let host_key = desk.path("host_key");
    let flags = [
        "-opauth",
        &operators,
        "-host-key",
        host_key.to_str().unwrap(),
    ];
    let replicas = Replicas::start(&minio, "identity", 3, &flags);
    // Each request goes to another one: nonce, signature and token, and every step of an upload.
    let address = format!("http://{}", replicas.address());
    let operator = ["-addr", &address, "-key", "jane"];
    desk.write("code/program", "one");
    for verb in [
        &["push", "code:v1", "code"][..],
        &["addconf", "-name", "project", "-layer", "code:v1"],
        &["showconf", "-name", "project"],
    ] {
        desk.deployctl(operator.iter().chain(verb).copied()).ok();
    }
    let stranger = ["-addr", &address, "-key", "bob", "configurations"];
    desk.deployctl(stranger).code(1);
}
