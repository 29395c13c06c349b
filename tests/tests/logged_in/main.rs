//! Whoever has a key or a password gets in, with our programs and with other projects' clients, over TLS; and
//! nobody else.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where something does not hold"
)]

mod clients;
mod place;

use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::registry::Registry;
use deploy_tests::tree::Tree;

use place::{Place, generate};

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
    // Without it nobody vouches for the registry, which is said once.
    let far = Desk::at(format!("https://{}", place.desk.address()));
    let untold = far.agent_once("image", "host", &far.script("deploy.sh", "true"));
    let said = untold.code(1).stderr;
    assert_eq!(said.matches("certificate").count(), 1, "{said}");
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
