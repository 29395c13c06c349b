//! A host deploys what an operator has signed, whatever the registry says; and what is signed here is what
//! `ssh-keygen` signs and verifies.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use deploy_tests::command::Answer;
use deploy_tests::desk::Desk;
use deploy_tests::registry::Registry;
use deploy_tests::{http, peer_or_skip};
use serde_json::Value;

const NAMESPACE: &str = "release@deploy-tools";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry with the configuration `project`, and the keys of jane, who may sign, and of bob, who may not.
struct Place {
    registry: Registry,
    desk: Desk,
}

impl Place {
    fn new() -> Self {
        let registry = Registry::start();
        let desk = Desk::at(registry.address());
        for name in ["jane", "bob"] {
            let flags = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name];
            desk.run("ssh-keygen").args(flags).ok();
        }
        let key = desk.read("jane.pub");
        desk.write(
            "signers",
            format!("jane@example namespaces=\"{NAMESPACE}\" {key}"),
        );
        desk.script("deploy.sh", r#"cat "$NEWROOT/program" >>deployed"#);
        let place = Self { registry, desk };
        for version in ["v1", "v2", "v3"] {
            (place.desk).push_file("code", version, "program", &format!("{version}\n"));
        }
        place
    }

    /// Makes the next release, of this version of its only component.
    fn release(&self, version: &str, signed: bool) {
        let layer = format!("code:{version}");
        let compose = ["addconf", "-name", "project", "-layer", &layer];
        let sign: &[&str] = match signed {
            true => &["-key", "jane", "--sign"],
            false => &[],
        };
        let all = compose.iter().chain(sign).copied();
        self.desk.deployctl(all).ok();
    }

    fn sign(&self, key: &str, more: &[&str]) -> Answer {
        let sign = ["-key", key, "sign", "-name", "project"];
        let all = sign.iter().chain(more).copied();
        self.desk.deployctl(all).ok()
    }

    /// Moves the channel behind everybody's back, as a registry could that is not to be trusted.
    fn point_at(&self, tag: &str) {
        let address = self.registry.address();
        let path = |tag: &str| format!("/v2/configs/project/manifests/{tag}");
        let manifest = http::get(&address, &path(tag)).unwrap().body;
        let headers = [("content-type", MANIFEST)];
        let put = http::request(&address, "PUT", &path("latest"), &headers, &manifest);
        assert_eq!(put.unwrap().status, 201);
    }

    fn once(&self) -> Answer {
        let script = self.desk.path("deploy.sh");
        let run = self.desk.agent_once("project", "host", &script);
        run.args(["-allowed-signers", "signers"]).answer().unwrap()
    }

    /// What is not deployed, and the reason.
    fn refused(&self, why: &str) {
        let answer = self.once();
        assert!(!answer.succeeded(), "{answer}");
        assert!(answer.stderr.contains(why), "{answer}");
        let status = self.status();
        assert!(
            status.contains("refused: ") && status.contains(why),
            "{status}"
        );
    }

    fn deployed(&self, all: &str) {
        let answer = self.once();
        assert!(answer.succeeded(), "{answer}");
        assert_eq!(self.desk.read("deployed").replace('\n', " ").trim(), all);
    }

    fn status(&self) -> String {
        let agent = self.desk.run(deploy_tests::programs::Program::Agent.path());
        agent.args(["status", "-dir", "host"]).ok().stdout
    }

    fn verify(&self, release: &str) -> Value {
        let verify = ["verify", "-name", "project", "-allowed-signers", "signers"];
        let all = verify.iter().copied().chain(["-release", release]);
        let answer = self.desk.deployctl(all).args(["--output", "json"]);
        serde_json::from_str(&answer.answer().unwrap().stdout).unwrap()
    }
}

#[test]
fn a_host_deploys_what_is_signed_for_it_and_goes_back_only_where_that_is_signed() {
    let place = Place::new();
    place.release("v1", false);
    place.refused("it has no signature");
    place.sign("bob", &[]);
    place.refused("is not among the allowed signers");
    place.sign("jane", &[]);
    place.deployed("v1");
    place.release("v2", true);
    place.deployed("v1 v2");
    assert!(place.status().contains("signed: by jane@example (SHA256:"));
    // What was good once is not good for ever.
    place.point_at("v1");
    place.refused("v2 was accepted before, and v1 was signed as a release, not as a rollback");
    // It has to be later than what was accepted: within the same second is late enough.
    place.sign("jane", &["-rollback"]);
    place.deployed("v1 v2 v1");
    // A list that nobody is on lets nothing in, and one that is gone neither.
    place.release("v3", true);
    place.desk.write("signers", "# nobody\n");
    let answer = place.once();
    assert!(
        !answer.succeeded() && answer.stderr.contains("names nobody"),
        "{answer}"
    );
    std::fs::remove_file(place.desk.path("signers")).unwrap();
    let answer = place.once();
    assert!(
        !answer.succeeded() && answer.stderr.contains("allowed signers"),
        "{answer}"
    );
    assert_eq!(place.desk.read("deployed").lines().count(), 3);
}

#[test]
fn ssh_keygen_verifies_what_is_signed_here_and_signs_what_is_verified_here() {
    let oras = peer_or_skip!(
        "ssh_keygen_verifies_what_is_signed_here_and_signs_what_is_verified_here",
        "oras"
    );
    let place = Place::new();
    let desk = &place.desk;
    place.release("v1", true);
    let found = place.verify("v1");
    assert_eq!(found["accepted"], true, "{found}");
    // As anybody finds them who has never heard of us.
    let id = found["signatures"][0]["id"].as_str().unwrap();
    let repository = format!("{}/configs/project", desk.address());
    let from = format!("{repository}@{id}");
    (desk.run(&oras))
        .args(["pull", "--plain-http", "-o", "signature", &from])
        .ok();
    let statement = desk.read("signature/statement.json");
    let verified = |statement: &str| {
        let check = [
            "-Y",
            "verify",
            "-f",
            "signers",
            "-I",
            "jane@example",
            "-n",
            NAMESPACE,
        ];
        let run = desk.run("ssh-keygen").args(check);
        let run = run.args(["-s", "signature/statement.json.sig"]);
        run.input(statement.to_owned())
            .answer()
            .unwrap()
            .succeeded()
    };
    assert!(verified(&statement));
    assert!(!verified(&statement.replace("\"v1\"", "\"v2\"")));

    place.release("v2", false);
    let id = place.verify("v2")["id"].as_str().unwrap().to_owned();
    let mut new: Value = serde_json::from_str(&statement).unwrap();
    new["release"] = id.into();
    new["number"] = "v2".into();
    desk.write("statement.json", new.to_string());
    let sign = [
        "-Y",
        "sign",
        "-f",
        "jane",
        "-n",
        NAMESPACE,
        "statement.json",
    ];
    desk.run("ssh-keygen").args(sign).ok();
    let attach = [
        "attach",
        "--plain-http",
        "--artifact-type",
        "application/vnd.deploytools.signature.v1+json",
        &format!("{repository}:v2"),
        "statement.json:application/vnd.deploytools.statement.v1+json",
        "statement.json.sig:application/vnd.deploytools.ssh-signature.v1",
    ];
    desk.run(&oras).args(attach).ok();
    let found = place.verify("v2");
    assert_eq!(found["accepted"], true, "{found}");
    assert_eq!(found["signatures"][0]["principals"], "jane@example");
    place.deployed("v2");
    // What was signed for this name is not for another one, wherever its signature is copied to.
    let other = format!("{}/configs/other:latest", desk.address());
    let copy = ["cp", "-r", "--from-plain-http", "--to-plain-http"];
    let from = format!("{repository}:v2");
    desk.run(&oras).args(copy).args([&from, &other]).ok();
    let run = desk.agent_once("other", "other", &desk.path("deploy.sh"));
    let answer = run.args(["-allowed-signers", "signers"]).code(1);
    assert!(answer.stderr.contains("configs/project"), "{answer}");
}
