//! Whoever has a key or a password gets in, with our programs and with other projects' clients, over TLS; and
//! nobody else.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where something does not hold"
)]

use std::path::Path;

use deploy_tests::archive::{Archive, gzip};
use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::registry::Registry;
use deploy_tests::tree::Tree;

/// `secret`, with the least work that bcrypt knows.
const SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

/// A registry that knows the operator `jane` and the service `web1` by their keys, and `writer` and `reader` by
/// their passwords; and a desk that has the keys.
struct Place {
    registry: Registry,
    desk: Desk,
    /// Where the files of keys and passwords are.
    #[expect(dead_code, reason = "it is removed with the rest")]
    keys: Desk,
}

impl Place {
    fn new() -> Self {
        let keys = Desk::at("");
        for name in ["jane", "web1", "stranger"] {
            generate(&keys, name, &["-t", "ed25519"]);
        }
        keys.write("operators", keys.read("jane.pub"));
        keys.write("services", keys.read("web1.pub"));
        keys.write(
            "passwords",
            format!("writer:{SECRET}:write\nreader:{SECRET}\n"),
        );
        let path = |name: &str| keys.path(name).to_str().unwrap().to_owned();
        let registry = Registry::start_with(&[
            "-opauth",
            &path("operators"),
            "-srvauth",
            &path("services"),
            "-htpasswd",
            &path("passwords"),
        ]);
        // Under its name, as people reach it.
        let desk = Desk::at(registry.address().replace("127.0.0.1", "localhost"));
        for name in ["jane", "web1", "stranger"] {
            let private = desk.write(name, keys.read(name));
            desk.run("chmod").arg("600").arg(private).ok();
        }
        let place = Self {
            registry,
            desk,
            keys,
        };
        let pinned = place.pinned("jane", &["certificate"]);
        let certificate = pinned.ok().stdout;
        place.desk.write("certificates/ca.crt", &certificate);
        let tar = Archive::new().file("file", "content").tar();
        place.desk.write("layer.tar.gz", gzip(&tar));
        std::fs::create_dir(place.desk.path("run")).unwrap();
        place
            .pinned("jane", &["push", "base:v1", "layer.tar.gz"])
            .ok();
        let compose = ["addconf", "-name", "image", "-layer", "base:v1"];
        place.pinned("jane", &compose).ok();
        place
    }

    /// `deployctl` with somebody's key.
    fn pinned(&self, key: &str, arguments: &[&str]) -> Run {
        let fingerprint = self.registry.fingerprint();
        let flags = ["-fp", &fingerprint, "-key", key];
        self.desk
            .deployctl(flags.into_iter().chain(arguments.iter().copied()))
    }

    /// Another project's client, which trusts the registry's certificate.
    fn client(&self, program: &Path, arguments: &[&str]) -> Run {
        let certificate = self.desk.path("certificates/ca.crt");
        self.desk
            .run(program)
            .env("SSL_CERT_FILE", certificate)
            .env("XDG_RUNTIME_DIR", self.desk.path("run"))
            .args(arguments)
    }

    fn reference(&self, repository: &str) -> String {
        format!("{}/components/{repository}:v1", self.desk.address())
    }
}

fn generate(desk: &Desk, name: &str, flags: &[&str]) {
    desk.run("ssh-keygen")
        .args(["-q", "-N", "", "-C", name, "-f", name])
        .args(flags)
        .ok();
}

/// How a client is told what to do: log in as somebody, push, pull.
struct Client {
    name: &'static str,
    login: fn(&Place, &Path, &str) -> Run,
    push: fn(&Place, &Path, &str) -> Run,
    pull: fn(&Place, &Path, &str) -> Run,
}

const TYPED: &str = "layer.tar.gz:application/vnd.oci.image.layer.v1.tar+gzip";

const CLIENTS: [Client; 5] = [
    Client {
        name: "oras",
        login: |place, program, user| {
            let address = place.desk.address();
            let arguments = ["login", "-u", user, "--password-stdin", address];
            place.client(program, &arguments).input("secret")
        },
        push: |place, program, to| place.client(program, &["push", to, TYPED]),
        pull: |place, program, from| place.client(program, &["pull", "-o", "pulled", from]),
    },
    Client {
        name: "crane",
        login: |place, program, user| {
            let address = place.desk.address();
            let arguments = ["auth", "login", address, "-u", user, "--password-stdin"];
            place.client(program, &arguments).input("secret")
        },
        push: |place, program, to| {
            let arguments = ["append", "--oci-empty-base", "-f", "layer.tar.gz", "-t", to];
            place.client(program, &arguments)
        },
        pull: |place, program, from| place.client(program, &["pull", from, "pulled.tar"]),
    },
    Client {
        name: "regctl",
        login: |place, program, user| {
            let address = place.desk.address();
            let arguments = ["registry", "login", address, "-u", user, "--pass-stdin"];
            place.client(program, &arguments).input("secret")
        },
        push: |place, program, to| {
            let arguments = [
                "artifact",
                "put",
                "--artifact-type",
                "x/y",
                "-f",
                "layer.tar.gz",
                to,
            ];
            place.client(program, &arguments)
        },
        pull: |place, program, from| place.client(program, &["manifest", "get", from]),
    },
    Client {
        name: "skopeo",
        login: |place, program, user| {
            let address = place.desk.address();
            let arguments = [
                "login",
                "--cert-dir",
                "certificates",
                "-u",
                user,
                "--password-stdin",
                address,
            ];
            place.client(program, &arguments).input("secret")
        },
        push: |place, program, to| {
            let [from, to] = [IMAGE, to].map(|reference| format!("docker://{reference}"));
            let from = from.replace("HOST", place.desk.address());
            let certificates = [
                "--src-cert-dir",
                "certificates",
                "--dest-cert-dir",
                "certificates",
            ];
            place
                .client(program, &["copy"])
                .args(certificates)
                .args([from, to])
        },
        pull: |place, program, from| {
            let from = format!("docker://{from}");
            let arguments = [
                "copy",
                "--src-cert-dir",
                "certificates",
                &from,
                "dir:pulled-by-skopeo",
            ];
            place.client(program, &arguments)
        },
    },
    Client {
        name: "podman",
        login: |place, program, user| {
            let address = place.desk.address();
            let arguments = [
                "login",
                "--cert-dir",
                "certificates",
                "-u",
                user,
                "--password-stdin",
                address,
            ];
            place.client(program, &arguments).input("secret")
        },
        push: |place, program, to| {
            let from = IMAGE.replace("HOST", place.desk.address());
            // It pushes what it has pulled, where it may.
            podman(place, program, "pull", &[&from]).answer().unwrap();
            podman(place, program, "push", &[&from, to])
        },
        pull: |place, program, from| podman(place, program, "pull", &[from]),
    },
];

/// What clients copy that push nothing but images.
const IMAGE: &str = "HOST/configs/image:latest";

fn podman(place: &Place, program: &Path, verb: &str, arguments: &[&str]) -> Run {
    let [root, run] = ["containers", "containers-run"].map(|name| place.desk.path(name));
    place
        .client(program, &[])
        .arg("--root")
        .arg(root)
        .arg("--runroot")
        .arg(run)
        .args([
            "--storage-driver",
            "vfs",
            verb,
            "-q",
            "--cert-dir",
            "certificates",
        ])
        .args(arguments)
}

/// Every client does with a login what its owner may, and without one nothing.
fn clients_are_let_in(test: &str, log_in: impl Fn(&Place, &Client, &Path, Who)) {
    for client in CLIENTS {
        let Some(program) = deploy_tests::peers::find(client.name) else {
            deploy_tests::peers::skip(test, client.name);
            return;
        };
        let place = Place::new();
        let (mine, theirs) = (place.reference("mine"), place.reference("theirs"));
        let refused = |run: Run, what: &str| {
            let answer = run.answer().unwrap();
            assert!(!answer.succeeded(), "{} {what}: {answer:?}", client.name);
        };
        refused((client.push)(&place, &program, &mine), "pushes as nobody");
        log_in(&place, &client, &program, Who::Writes);
        (client.push)(&place, &program, &mine).ok();
        (client.pull)(&place, &program, &mine).ok();
        log_in(&place, &client, &program, Who::Reads);
        (client.pull)(&place, &program, &mine).ok();
        refused(
            (client.push)(&place, &program, &theirs),
            "pushes as a reader",
        );
        place.desk.deployctl(["logout"]).ok();
        // What clients keep in places of their own.
        let own = [".regctl", ".docker", "run/containers"];
        place.desk.run("rm").arg("-rf").args(own).ok();
        refused((client.pull)(&place, &program, &mine), "pulls as nobody");
    }
}

#[derive(Clone, Copy)]
enum Who {
    Reads,
    Writes,
}

#[test]
fn container_clients_use_keys() {
    clients_are_let_in("container_clients_use_keys", |place, _, _, who| {
        let key = match who {
            Who::Writes => "jane",
            Who::Reads => "web1",
        };
        place.pinned(key, &["login"]).ok();
    });
}

#[test]
fn container_clients_use_passwords() {
    clients_are_let_in(
        "container_clients_use_passwords",
        |place, client, program, who| {
            let user = match who {
                Who::Writes => "writer",
                Who::Reads => "reader",
            };
            (client.login)(place, program, user).ok();
        },
    );
}

#[test]
fn curl_trusts_the_certificate_and_nothing_else() {
    let place = Place::new();
    let url = format!(
        "https://{}/v2/configs/image/tags/list",
        place.desk.address()
    );
    let token = place.pinned(
        "web1",
        &["token", "-scope", "repository:configs/image:pull"],
    );
    let bearer = format!("Authorization: Bearer {}", token.ok().stdout.trim());
    let curl = |flags: &[&str]| {
        let run = place
            .desk
            .run("curl")
            .args(["-sS", "-o", "answer", "-w", "%{http_code}"]);
        run.args(flags).arg(&url).answer().unwrap()
    };
    let pinned = ["--cacert", "certificates/ca.crt"];
    let unknown = curl(&[]);
    assert!(unknown.stderr.contains("self-signed"), "{unknown:?}");
    assert_eq!(curl(&pinned).stdout, "401");
    assert_eq!(
        curl(&[&pinned[..], &["-H", &bearer]].concat()).stdout,
        "200"
    );
    // The oldest protocol that may be spoken.
    for (flags, code) in [(["--tls-max", "1.2"], "401"), (["--tls-max", "1.1"], "000")] {
        assert_eq!(curl(&[&pinned[..], &flags].concat()).stdout, code);
    }
    assert!(place.desk.read("answer").contains("UNAUTHORIZED"));
}

#[test]
fn keys_of_every_kind_sign_and_an_agent_keeps_them() {
    let place = Place::new();
    let kinds = [
        ("ed25519", &["-t", "ed25519"][..]),
        ("p256", &["-t", "ecdsa", "-b", "256"]),
        ("p384", &["-t", "ecdsa", "-b", "384"]),
        ("p521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
    ];
    let mut operators = String::new();
    for (name, flags) in kinds {
        generate(&place.desk, name, flags);
        operators.push_str(&place.desk.read(&format!("{name}.pub")));
    }
    let file = place.desk.write("kinds", operators);
    let guarded = Registry::start_with(&["-opauth", file.to_str().unwrap()]);
    let (fingerprint, address) = (guarded.fingerprint(), guarded.address());
    let list = |flags: &[&str]| {
        let usual = ["-addr", &address, "-fp", &fingerprint, "configurations"];
        place
            .desk
            .deployctl(usual.into_iter().chain(flags.iter().copied()))
    };
    for (name, _) in kinds {
        list(&["-key", name]).ok();
    }
    let passphrase = ["-p", "-q", "-N", "typed", "-P", "", "-f", "ed25519"];
    place.desk.run("ssh-keygen").args(passphrase).ok();
    let answer = list(&["-key", "ed25519"]).code(1);
    assert!(answer.stderr.contains("has a passphrase"), "{answer:?}");
    let socket = place.desk.path("agent.sock");
    let agent = place
        .desk
        .run("ssh-agent")
        .arg("-a")
        .arg(&socket)
        .ok()
        .stdout;
    let pid = agent
        .split(['=', ';'])
        .skip_while(|word| !word.ends_with("SSH_AGENT_PID"))
        .nth(1);
    let with_agent = |run: Run| run.env("SSH_AUTH_SOCK", &socket);
    for (name, _) in &kinds[1..] {
        with_agent(place.desk.run("ssh-add").args(["-q", name])).ok();
        // Its other half is in the agent.
        with_agent(list(&["-key", &format!("{name}.pub")])).ok();
    }
    with_agent(list(&[])).ok();
    let answer = with_agent(list(&["-key", "ed25519.pub"])).code(1);
    assert!(
        answer.stderr.contains("has to be in the ssh-agent"),
        "{answer:?}"
    );
    place.desk.run("kill").arg(pid.unwrap()).ok();
}

#[test]
fn a_host_deploys_with_its_own_key() {
    let place = Place::new();
    let fingerprint = place.registry.fingerprint();
    let script = place.desk.script("deploy.sh", "true");
    let once = |key: &str| {
        let run = place.desk.agent_once("image", "host", &script);
        run.args(["-fp", &fingerprint, "-key", key])
    };
    let answer = once("stranger").code(1);
    assert!(answer.stderr.contains("does not take key"), "{answer:?}");
    once("web1").ok();
    // The environment says as well whom to trust.
    let pinned = |fingerprint: &str| {
        let run = place.desk.agent_once("image", "other", &script);
        run.args(["-key", "web1"])
            .env("DEPLOYCTL_FINGERPRINT", fingerprint)
    };
    let another = "SHA256:zPy7elP5hNcnQlTKNwJoZpx4ZeLHaaFEnoREiS1+pQI";
    let answer = pinned(another).code(1);
    assert!(
        answer.stderr.contains("its key has fingerprint"),
        "{answer:?}"
    );
    pinned(&fingerprint).ok();
    assert_eq!(Tree::of(place.desk.current("host")).paths(), ["file"]);
}

#[test]
fn what_is_not_right_is_refused_and_said() {
    let mut place = Place::new();
    let listed = |place: &Place, flags: &[&str]| {
        let flags = flags.iter().copied().chain(["configurations"]);
        place.desk.deployctl(flags).code(1).stderr
    };
    let (fingerprint, address) = (place.registry.fingerprint(), place.registry.address());
    // Nobody vouches for the certificate, so the message says what to trust.
    let message = listed(&place, &["-addr", &format!("https://{address}")]);
    assert!(message.contains(&format!("-fp {fingerprint}")), "{message}");
    assert!(message.contains("`: no authority that"), "{message}");
    // No secret in the clear, unless somebody says so.
    let message = listed(&place, &["-key", "jane"]);
    assert!(
        message.contains("no secret is sent over plain HTTP"),
        "{message}"
    );
    let plain = format!("http://{address}");
    place
        .desk
        .deployctl(["-addr", &plain, "-key", "jane", "configurations"])
        .ok();
    let message = listed(&place, &["-fp", &fingerprint]);
    assert!(
        message.contains("hint: name an SSH key with -key"),
        "{message}"
    );
    place.desk.run("chmod").args(["644", "jane"]).ok();
    let message = listed(&place, &["-fp", &fingerprint, "-key", "jane"]);
    assert!(message.contains("may be read by others"), "{message}");
    place.desk.run("chmod").args(["600", "jane"]).ok();
    // Whoever proved himself is not asked to do so.
    let denied = ["addconf", "-name", "image2", "-layer", "base:v1"];
    let denied = place.pinned("web1", &denied).code(1).stderr;
    assert!(denied.contains("does not allow it"), "{denied}");
    // Another key in its place.
    place.registry.kill();
    std::fs::remove_file(place.registry.directory().join("host_key")).unwrap();
    place.registry.restart();
    let message = listed(&place, &["-fp", &fingerprint, "-key", "jane"]);
    let new = place.registry.fingerprint();
    assert!(
        message.contains(&fingerprint) && message.contains(&new),
        "{message}"
    );
    let answer = place.pinned("jane", &["configurations"]).ok();
    assert_eq!(answer.stdout.trim(), "image");
}

#[test]
fn a_login_that_fails_keeps_nothing() {
    let place = Place::new();
    place.pinned("stranger", &["login"]).code(1);
    let wrong = place.pinned("jane", &["login", "-user", "writer", "-password-stdin"]);
    wrong.input("wrong").code(1);
    assert!(!place.desk.path(".docker/config.json").exists());
    assert!(!place.desk.path(".config/deployctl").exists());
    let right = place.pinned("jane", &["login", "-user", "writer", "-password-stdin"]);
    right.input("secret\n").ok();
    // It is remembered whom to trust.
    place
        .desk
        .deployctl(["push", "more:v1", "layer.tar.gz"])
        .ok();
    place.desk.deployctl(["logout"]).ok();
    place
        .desk
        .deployctl(["push", "more:v2", "layer.tar.gz"])
        .code(1);
    let open = Registry::start();
    let answer = place
        .desk
        .deployctl(["-addr", &open.address(), "login"])
        .code(1);
    assert!(answer.stderr.contains("nothing to log in to"), "{answer:?}");
}
