//! The story that the demo tells: programs are built, packed, composed and deployed; one layer changes, and that
//! layer is all that moves. Called by `main`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use deploy_tests::command::quoted;
use deploy_tests::server::Server;
use deploy_tests::{http, oci, programs};

use crate::printer::{Printer, seconds, size};
use crate::shell::Shell;
use crate::stage::Stage;

/// What the script of the host is; it is written to the demo's directory as it stands here.
const SCRIPT: &str = include_str!("deploy.sh");

/// The programs that are built, and that are the content of component `code`.
const PROGRAMS: [programs::Program; 4] = programs::Program::ALL;

/// What is left to say once the story is over.
#[derive(Debug)]
pub(crate) struct Ending {
    directory: PathBuf,
    programs: PathBuf,
    address: String,
    processes: Vec<u32>,
    servers: [Server; 2],
}

/// Tells the story.
///
/// # Errors
/// When anything is not as it is promised.
pub(crate) fn tell(printer: &Printer, stage: &Stage) -> Result<Ending> {
    let mut shell = Shell::new(printer, stage);
    let directory = stage.directory().to_owned();

    printer.heading("The four programs");
    let bin = build(printer)?;
    let path = std::env::var("PATH").unwrap_or_default();
    shell.export(
        "PATH",
        &format!("{}:{path}", bin.display()),
        &format!("{}:$PATH", quoted(&bin.display().to_string())),
    );

    printer.heading("A registry on an empty directory");
    printer.command(&format!("cd {}", directory.display()));
    shell.run("mkdir registry code config host")?;
    let line = "deploy-registry -addr 127.0.0.1:0 -dir registry -anonymous write";
    let mut registry = shell.leave_running(line, "registry.log")?;
    let address = registry.address()?.to_string();
    printer.say(&format!("it has taken a free port; its log says {address}"));
    shell.export("DEPLOYCTL_ADDR", &address, &address);

    printer.heading("Two components: the programs just built, and a configuration for them");
    let names = PROGRAMS.map(programs::Program::name).join(",");
    shell.run(&format!(
        "cp {}/{{{names}}} code/",
        quoted(&bin.display().to_string())
    ))?;
    shell.run("du -h code/*")?;
    shell.run("echo 'GREETING=hello MAXVER=10' >config/service.conf")?;
    shell.run("deployctl push code:v1 code")?;
    shell.run("deployctl push config:v1 config")?;

    printer.heading("A configuration of both, release v1");
    shell.run("deployctl addconf -name demo -layer code:v1 -layer config:v1")?;
    shell.run("deployctl showconf -name demo -v")?;

    printer.heading("A host that follows it");
    printer.say("deploy.sh starts deploy-registry from the new tree and asks its health endpoint:");
    std::fs::write(directory.join("deploy.sh"), SCRIPT).context("write the host's script")?;
    shell.run("chmod +x deploy.sh")?;
    shell.run("sed -n '/^setsid/,$p' deploy.sh")?;
    stage.pid_file(directory.join("service.pid"));
    let line = format!(
        "deploy-agent -addr {address} -dir host -name demo -script ./deploy.sh -state host/state.json"
    );
    let before = Reading::of(&address)?;
    let mut agent = shell.leave_running(&line, "agent.log")?;
    let first = follow(printer, &shell, &mut agent, &address, "v1", "hello")?;
    let all = before.bytes_since()?;
    printer.say(&format!("{} moved to the host", size(all)));

    printer.heading("One layer changes, release v2");
    shell.run("echo 'GREETING=\"hello again\" MAXVER=20' >config/service.conf")?;
    shell.run("deployctl push config:v2 config")?;
    let before = Reading::of(&address)?;
    shell.run("deployctl changeconf -name demo -component config -version v2")?;
    let second = follow(printer, &shell, &mut agent, &address, "v2", "hello again")?;
    let moved = before.bytes_since()?;
    shell.run("deployctl showconf -name demo")?;
    shell.run("ls -l host/current")?;
    shell.run("cat agent.log")?;

    printer.heading("What was promised");
    judge(printer, &address, all, moved)?;
    ensure!(
        first != second,
        "both releases are served by the same process"
    );
    printer.kept("the script started the deployed registry from NEWROOT both times, and its health endpoint answered 200");
    Ok(Ending {
        directory,
        programs: bin,
        address,
        processes: stage.processes(),
        servers: [agent, registry],
    })
}

/// Builds the programs with the compiler's own words on the terminal.
fn build(printer: &Printer) -> Result<PathBuf> {
    let packages = PROGRAMS
        .iter()
        .flat_map(|program| ["--package", program.name()]);
    let choice: Vec<&str> = if programs::is_release()? {
        ["--release"].into_iter().chain(packages).collect()
    } else {
        programs::AS_TESTS.to_vec()
    };
    printer.command(&format!("cargo build --locked {}", choice.join(" ")));
    let start = std::time::Instant::now();
    let bin = programs::build_aloud(&choice)?;
    printer.took(start.elapsed());
    Ok(bin)
}

/// Waits until the host serves release `tag`, asks the service itself, and returns the service's address.
fn follow(
    printer: &Printer,
    shell: &Shell<'_>,
    agent: &mut Server,
    address: &str,
    tag: &str,
    greeting: &str,
) -> Result<String> {
    let release = oci::manifest(address, "configs/demo", tag)?
        .with_context(|| format!("there is no release {tag}"))?;
    let serving = shell.directory().join("serving");
    let look = || {
        std::fs::read_to_string(&serving)
            .ok()
            .filter(|text| text.starts_with(&release.digest))
    };
    let (text, time) = shell.wait(&format!("release {tag} on the host"), agent, look)?;
    let mut words = text.trim().splitn(3, ' ').skip(1);
    let service = words
        .next()
        .context("the script says where its service is")?
        .to_owned();
    ensure!(
        words.next() == Some(greeting),
        "the service has another configuration than release {tag}"
    );
    let health = http::get(&service, "/healthz")?;
    ensure!(
        health.status == 200,
        "the deployed registry answers {} to /healthz",
        health.status
    );
    // The script is done a moment before the agent is, which then moves `current`.
    let current = shell.directory().join("host/current/service.conf");
    let current = || {
        std::fs::read_to_string(&current)
            .ok()
            .filter(|text| text.contains(greeting))
    };
    shell.wait("`current`", agent, current)?;
    printer.say(&format!(
        "{} later the host runs {tag}, and http://{service}/healthz answers 200",
        seconds(time)
    ));
    Ok(service)
}

/// Compares what moved with what the two releases hold.
fn judge(printer: &Printer, address: &str, all: u64, moved: u64) -> Result<()> {
    let layers = |tag: &str| -> Result<Vec<(String, u64)>> {
        let release = oci::manifest(address, "configs/demo", tag)?
            .with_context(|| format!("there is no release {tag}"))?;
        let layers = release.json["layers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let pair = |layer: &serde_json::Value| {
            Some((
                layer["digest"].as_str()?.to_owned(),
                layer["size"].as_u64()?,
            ))
        };
        Ok(layers.iter().filter_map(pair).collect())
    };
    let (one, two) = (layers("v1")?, layers("v2")?);
    ensure!(
        one.len() == 2 && two.len() == 2,
        "the releases have {} and {} layers",
        one.len(),
        two.len()
    );
    let total: u64 = one.iter().map(|(_, size)| size).sum();
    ensure!(
        all >= total,
        "{all} bytes moved for release v1, and its layers have {total}"
    );
    printer.kept(&format!("release v1 moved both layers, {}", size(total)));
    ensure!(
        one[0] == two[0] && one[1] != two[1],
        "another layer than the changed one is different"
    );
    // Beside the layer itself the release's small documents move: manifests and the image config.
    const DOCUMENTS: u64 = 64 * 1024;
    let (changed, kept) = (two[1].1, two[0].1);
    ensure!(
        moved >= changed && moved < changed + DOCUMENTS && moved < kept,
        "{moved} bytes moved for release v2"
    );
    printer.kept(&format!(
        "release v2 moved the changed layer alone: {} with its documents, and {} stayed where they were",
        size(moved),
        size(kept)
    ));
    Ok(())
}

/// How many bytes the registry had sent in bodies at some moment, by its own count.
struct Reading<'a> {
    address: &'a str,
    bytes: u64,
}

impl<'a> Reading<'a> {
    fn of(address: &'a str) -> Result<Self> {
        const COUNTER: &str = "deploy_registry_http_sent_bytes";
        // What it sends to say so is none of it.
        const OWN: &str = "{route=\"metrics\"}";
        let metrics = http::get(address, "/metrics")?.text();
        ensure!(
            metrics.contains(&format!("# TYPE {COUNTER} counter")),
            "the registry does not count `{COUNTER}`"
        );
        let routes = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(COUNTER)?.strip_prefix("_total"))
            .filter(|line| !line.starts_with(OWN));
        let counts = routes.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(Self {
            address,
            bytes: counts.sum(),
        })
    }

    fn bytes_since(&self) -> Result<u64> {
        Ok(Self::of(self.address)?.bytes - self.bytes)
    }
}

impl Ending {
    pub(crate) fn leave_running_and_say_how_to_look_round(self, printer: &Printer) {
        self.servers.into_iter().for_each(Server::leave);
        let (directory, programs) = (self.directory.display(), self.programs.display());
        let processes = self
            .processes
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(" ");
        printer.heading("Everything is left running");
        printer.plain(&format!(
            "look round:  export PATH={programs}:$PATH DEPLOYCTL_ADDR={}\n\
             \x20            cd {directory} && ls host/current host/unpacked && cat agent.log\n\
             \x20            deployctl components; deployctl showconf -name demo -v\n\
             stop it:     kill {processes}; rm -r {directory}\n",
            self.address
        ));
    }

    pub(crate) fn say_that_all_is_gone(&self, printer: &Printer) {
        printer.kept(&format!(
            "its {} processes are ended and {} is removed",
            self.processes.len(),
            self.directory.display()
        ));
    }
}
