//! Where one check of a client works: a home of its own, the program, a repository.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::layout::{Layout, TAG};
use crate::arguments::Common;
use crate::check::{Stop, Verdict};
use crate::http::Registry;
use crate::program::Program;
use crate::scope::{Repository, Scope};

/// A client that takes longer on such small content has hung.
const LIMIT: Duration = Duration::from_secs(180);

/// How a client has to speak with the registry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Plain,
    Unverified,
    Verified,
}

/// One client, one repository, one temporary home.
pub(super) struct Bench {
    scope: Scope,
    program: PathBuf,
    home: TempDir,
    /// The registry as clients name it.
    pub(super) host: String,
    pub(super) transport: Transport,
}

impl Bench {
    /// A home in which the client finds a policy, credentials where there are some, and
    /// nothing else.
    pub(super) fn new(
        registry: Registry,
        common: &Common,
        program: PathBuf,
        repository: String,
    ) -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let host = common.host();
        let containers = home.path().join(".config/containers");
        std::fs::create_dir_all(&containers)?;
        let policy = json!({"default": [{"type": "insecureAcceptAnything"}]});
        std::fs::write(containers.join("policy.json"), policy.to_string())?;
        std::fs::write(containers.join("registries.conf"), "")?;
        let mut auths = json!({});
        if let Some(username) = &common.username {
            let password = common.password.as_deref().unwrap_or_default();
            let pair = STANDARD.encode(format!("{username}:{password}"));
            auths[&host] = json!({"auth": pair});
        }
        let config = json!({"auths": auths}).to_string();
        std::fs::write(home.path().join("config.json"), config)?;
        let transport = match (common.url.scheme(), common.insecure) {
            ("http", _) => Transport::Plain,
            (_, true) => Transport::Unverified,
            (_, false) => Transport::Verified,
        };
        Ok(Self {
            scope: Scope::new(registry, repository),
            program,
            home,
            host,
            transport,
        })
    }

    /// The check's repository.
    pub(super) fn repository(&self) -> Repository {
        self.scope.repository()
    }

    /// Another repository of the check.
    pub(super) fn other(&self) -> Repository {
        self.scope.other("other")
    }

    /// `host/name:tag` or `host/name@digest`.
    pub(super) fn name(&self, repository: &Repository, reference: &str) -> String {
        let separator = if reference.contains(':') { '@' } else { ':' };
        format!("{}/{}{separator}{reference}", self.host, repository.name)
    }

    /// The check's repository with the tag of all layouts.
    pub(super) fn tagged(&self) -> String {
        self.name(&self.repository(), TAG)
    }

    /// `host/name`.
    pub(super) fn bare(&self) -> String {
        format!("{}/{}", self.host, self.repository().name)
    }

    /// A path in the temporary home, as an argument.
    pub(super) fn path(&self, name: &str) -> String {
        self.home.path().join(name).display().to_string()
    }

    /// Runs the client and answers its standard output.
    pub(super) async fn run<T: AsRef<str>>(&self, arguments: &[T]) -> Verdict<Vec<u8>> {
        let home = self.home.path();
        Program::new(&self.program, home, LIMIT)
            .env("HOME", home)
            .env("TMPDIR", home)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_RUNTIME_DIR", home)
            .env("DOCKER_CONFIG", home)
            .env("REGISTRY_AUTH_FILE", home.join("config.json"))
            .env("REGCTL_CONFIG", home.join("regctl.json"))
            .env(
                "CONTAINERS_REGISTRIES_CONF",
                home.join(".config/containers/registries.conf"),
            )
            .args(arguments)
            .run()
            .await
    }

    /// Runs the client and holds its output, without white space around it, against a text.
    pub(super) async fn says<T: AsRef<str>>(&self, arguments: &[T], wanted: &str) -> Verdict {
        let output = self.run(arguments).await?;
        let text = String::from_utf8_lossy(&output);
        if text.trim() == wanted {
            return Ok(());
        }
        Err(Stop::fail(line(arguments), wanted, text.trim()))
    }

    /// Runs the client and holds that its output has every one of `words` in it.
    pub(super) async fn mentions<T: AsRef<str>>(&self, arguments: &[T], words: &[&str]) -> Verdict {
        let output = self.run(arguments).await?;
        let text = String::from_utf8_lossy(&output);
        match words.iter().find(|word| !text.contains(**word)) {
            None => Ok(()),
            Some(word) => Err(Stop::fail(
                line(arguments),
                format!("`{word}`"),
                text.trim(),
            )),
        }
    }

    /// Runs the client and holds its output against exact bytes.
    pub(super) async fn writes<T: AsRef<str>>(&self, arguments: &[T], wanted: &[u8]) -> Verdict {
        let output = self.run(arguments).await?;
        if output == wanted {
            return Ok(());
        }
        let got = String::from_utf8_lossy(&output).into_owned();
        Err(Stop::fail(line(arguments), "the pushed bytes", got))
    }

    /// Writes a layout into the home.
    pub(super) fn layout(&self, make: fn(&Path) -> std::io::Result<Layout>) -> Verdict<Layout> {
        make(self.home.path()).map_err(disk)
    }

    /// Writes a file of random bytes into the home.
    pub(super) fn file(&self, name: &str) -> Verdict<Vec<u8>> {
        let bytes = crate::content::random_bytes(2000);
        std::fs::write(self.home.path().join(name), &bytes).map_err(disk)?;
        Ok(bytes)
    }

    /// Reads a file that the client wrote and holds it against exact bytes.
    pub(super) fn wrote(&self, name: &str, wanted: &[u8]) -> Verdict {
        match std::fs::read(self.home.path().join(name)) {
            Ok(bytes) if bytes == wanted => Ok(()),
            Ok(_) => Err(Stop::fail(name, "the pushed bytes", "other bytes")),
            Err(error) => Err(Stop::fail(name, "a file", error.to_string())),
        }
    }

    /// Pushes a layout's content by our own requests, so that there is something to pull.
    pub(super) async fn seed(&self, repository: &Repository, layout: &Layout) -> Verdict {
        for blob in &layout.blobs {
            repository.push(blob).await?;
        }
        for child in &layout.children {
            repository.push_manifest(&child.digest, child).await?;
        }
        repository.push_manifest(TAG, &layout.root).await?;
        Ok(())
    }

    /// A layout of which the check's repository has the content.
    pub(super) async fn seeded(
        &self,
        make: fn(&Path) -> std::io::Result<Layout>,
    ) -> Verdict<Layout> {
        let layout = self.layout(make)?;
        self.seed(&self.repository(), &layout).await?;
        Ok(layout)
    }

    /// Holds by our own requests that a repository has all of a layout's content.
    pub(super) async fn held(&self, repository: &Repository, layout: &Layout) -> Verdict {
        let root = repository.get_manifest(TAG).send().await?;
        root.status(&[200])?
            .body_is(&layout.root.bytes)?
            .header_is("content-type", &layout.root.media_type)?;
        for child in &layout.children {
            let reply = repository.get_manifest(&child.digest).send().await?;
            reply.status(&[200])?.body_is(&child.bytes)?;
        }
        for blob in &layout.blobs {
            let reply = repository.get_blob(&blob.digest).send().await?;
            reply.status(&[200])?.body_is(&blob.bytes)?;
        }
        Ok(())
    }

    /// Holds that a manifest is not there.
    pub(super) async fn gone(&self, repository: &Repository, reference: &str) -> Verdict {
        let reply = repository.get_manifest(reference).send().await?;
        reply.status(&[404])?;
        Ok(())
    }

    /// The manifest that a tag leads to, as JSON.
    pub(super) async fn manifest(&self, tag: &str) -> Verdict<Value> {
        let reply = self.repository().get_manifest(tag).send().await?;
        reply.status(&[200])?.json()
    }
}

fn line<T: AsRef<str>>(arguments: &[T]) -> String {
    let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    words.join(" ")
}

fn disk(error: std::io::Error) -> Stop {
    Stop::fail(
        "the temporary directory",
        "content to push",
        error.to_string(),
    )
}

/// Arguments of different origins in one list.
macro_rules! arguments {
    ($($argument:expr),* $(,)?) => {
        [$(AsRef::<str>::as_ref(&$argument).to_owned()),*]
    };
}
pub(super) use arguments;
