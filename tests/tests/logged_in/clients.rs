//! Other projects' clients log in, with keys and with passwords, and do what their owner may.

use std::path::Path;

use deploy_tests::command::Run;

use crate::place::Place;

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
