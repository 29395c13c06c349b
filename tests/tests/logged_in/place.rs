//! A registry that lets in some, and their desk.

use std::path::Path;

use deploy_tests::archive::{Archive, gzip};
use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::registry::Registry;

/// `secret`, with the least work that bcrypt knows.
const SECRET: &str = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW";

/// A registry that knows the operator `jane` and the service `web1` by their keys, and `writer` and `reader` by
/// their passwords; and a desk that has the keys.
pub(crate) struct Place {
    pub(crate) registry: Registry,
    pub(crate) desk: Desk,
    /// Where the files of keys and passwords are.
    #[expect(dead_code, reason = "it is removed with the rest")]
    keys: Desk,
}

impl Place {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn pinned(&self, key: &str, arguments: &[&str]) -> Run {
        let fingerprint = self.registry.fingerprint();
        let flags = ["-fp", &fingerprint, "-key", key];
        self.desk
            .deployctl(flags.into_iter().chain(arguments.iter().copied()))
    }

    /// Another project's client, which trusts the registry's certificate.
    pub(crate) fn client(&self, program: &Path, arguments: &[&str]) -> Run {
        let certificate = self.desk.path("certificates/ca.crt");
        self.desk
            .run(program)
            .env("SSL_CERT_FILE", certificate)
            .env("XDG_RUNTIME_DIR", self.desk.path("run"))
            .args(arguments)
    }

    pub(crate) fn reference(&self, repository: &str) -> String {
        format!("{}/components/{repository}:v1", self.desk.address())
    }
}

/// A key pair in the desk's home.
pub(crate) fn generate(desk: &Desk, name: &str, flags: &[&str]) {
    desk.run("ssh-keygen")
        .args(["-q", "-N", "", "-C", name, "-f", name])
        .args(flags)
        .ok();
}
