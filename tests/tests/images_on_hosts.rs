//! Container images on hosts without an engine: the agent's tree is what other programs unpack, and the
//! image's program runs there.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use std::fs::File;
use std::path::{Path, PathBuf};

use deploy_spec::media_type::Compression;
use deploy_tests::command::Run;
use deploy_tests::desk::Desk;
use deploy_tests::images::{Image, Tools};
use deploy_tests::programs::Program;
use deploy_tests::registry::Registry;
use deploy_tests::tree::Tree;
use deploy_tests::wait;
use deployctl::archive::{Dialect, FlattenOptions, LayerSource, flatten};
use serde_json::{Value, json};

/// Brings an image into the desk's registry as a configuration of this name.
type WayIn = fn(&Desk, &Image, &str);

/// A way in, by which a configuration of its name is made.
struct Way {
    name: &'static str,
    bring: WayIn,
    /// Whether the image's program is started too, in each way that there is.
    is_started: bool,
}

/// All ways in; the tree that arrives is the same.
const WAYS_IN: [Way; 7] = [
    Way {
        name: "skopeo",
        bring: by_skopeo,
        is_started: true,
    },
    Way {
        name: "layout",
        bring: |desk, image, name| {
            import(desk, name, &[&image.reference()]).ok();
        },
        is_started: true,
    },
    Way {
        name: "registry",
        // Where the first one has brought it.
        bring: |desk, _, name| {
            let from = format!("docker://{}/configs/skopeo:latest", desk.address());
            import(desk, name, &[&from]).ok();
        },
        is_started: false,
    },
    Way {
        name: "layout-archive",
        bring: |desk, image, name| {
            save(desk, image, "oci-archive:layout.tar:it");
            import(desk, name, &["oci-archive:layout.tar:it"]).ok();
        },
        is_started: false,
    },
    Way {
        name: "docker-archive",
        bring: |desk, image, name| {
            save(desk, image, "docker-archive:saved.tar:it:latest");
            import(desk, name, &["docker-archive:saved.tar"]).ok();
        },
        is_started: false,
    },
    Way {
        name: "standard-input",
        // What the one before has saved.
        bring: |desk, _, name| {
            let saved = std::fs::read(desk.path("saved.tar")).unwrap();
            import(desk, name, &[]).input(saved).ok();
        },
        is_started: false,
    },
    Way {
        name: "flattened",
        bring: |desk, image, name| {
            let arguments = [&image.reference(), "--flatten", "--recompress", "zstd"];
            import(desk, name, &arguments).ok();
        },
        is_started: true,
    },
];

/// `deploy-from-docker`, to make a configuration of this name.
fn import(desk: &Desk, name: &str, arguments: &[&str]) -> Run {
    desk.run(Program::FromDocker.path())
        .env("TMPDIR", desk.home())
        .args(arguments)
        .args(["-name", name])
}

fn save(desk: &Desk, image: &Image, to: &str) {
    desk.run("skopeo")
        .args(["copy", "--quiet", &image.reference(), to])
        .ok();
}

fn by_skopeo(desk: &Desk, image: &Image, name: &str) {
    let target = format!("docker://{}/configs/{name}:latest", desk.address());
    desk.run("skopeo")
        .args(["copy", "--quiet", "--dest-tls-verify=false"])
        .args([&image.reference(), &target])
        .ok();
}

/// Deploys a configuration with all that its layers say, and returns the tree.
fn deploy(desk: &Desk, name: &str, script: &Path) -> Tree {
    let host = format!("hosts/{name}");
    let answer = desk
        .agent_once(name, &host, script)
        .args(["-owner", "archive", "-special-bits", "keep"])
        .args(["-xattrs", "security.capability,user.*"])
        .ok();
    // What an image has in its environment may be secret.
    assert!(!answer.stderr.contains("good day"), "{answer}");
    Tree::of(desk.current(&host))
}

/// Compares whatever has come with what umoci and buildah make of the image. Times of directories are
/// left out: those of directories that no layer describes are the moment of unpacking for the others.
fn assert_same(desk: &Desk, tools: &Tools, image: &Image, ours: &[(String, Tree)]) {
    for (name, theirs) in [
        ("umoci", tools.umoci_tree(desk, image)),
        ("buildah", tools.buildah_tree(desk, image)),
    ] {
        let theirs = theirs.without_directory_times();
        assert!(theirs.entries.len() > 10, "{:?}", theirs.paths());
        for (way, ours) in ours {
            let ours = ours.clone().without_directory_times();
            assert_eq!(
                theirs.difference(&ours),
                "",
                "- {name}'s, + the agent's, by {way}"
            );
        }
    }
}

/// The image's layers as one archive, unpacked by GNU tar.
fn flattened(desk: &Desk, image: &Image) -> Tree {
    let layers: Vec<_> = image
        .layers()
        .into_iter()
        .map(|layer| LayerSource {
            name: layer.digest.clone(),
            path: layer.path,
            growing: None,
            digest: layer.digest.parse().unwrap(),
            size: None,
            diff_id: Some(layer.diff_id.parse().unwrap()),
            dialect: Dialect::Image,
        })
        .collect();
    let options = FlattenOptions {
        compression: Compression::Gzip,
        ..FlattenOptions::default()
    };
    let archive = File::create(desk.path("flat.tar.gz")).unwrap();
    let flattened = flatten(&layers, archive, &options).unwrap();
    assert_eq!(flattened.left_out, 0);
    std::fs::create_dir_all(desk.path("flat")).unwrap();
    desk.run("tar")
        .args(["-xzpf", "flat.tar.gz", "-C", "flat", "--numeric-owner"])
        .args(["--xattrs", "--xattrs-include=*", "--same-owner"])
        .ok();
    Tree::of(desk.path("flat"))
}

/// The script that the agent's README shows, which starts the image's program, and writes down what it was
/// told.
fn script(desk: &Desk) -> PathBuf {
    const README: &str = include_str!("../../agent/README.md");
    let (_, chapter) = README.split_once("## Starting an image's program").unwrap();
    let (_, block) = chapter.split_once("```sh\n").unwrap();
    let (shown, _) = block.split_once("```").unwrap();
    let log = desk.path("log").display().to_string();
    assert!(shown.contains("/var/log/project1.log"), "{shown}");
    let shown = shown.replace("/var/log/project1.log", &log);
    desk.write("shown.sh", shown);
    desk.script(
        "deploy.sh",
        r#"cp "$STATEFILE" state.json; env -0 >variables; exec bash -e shown.sh"#,
    )
}

/// Checks the variables that the script was given against the image's configuration.
fn assert_variables(desk: &Desk, config: &Value) {
    let variables = desk.read("variables");
    let value = |name: &str| -> Value {
        let mut variables = variables.split('\0');
        let value = variables.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        serde_json::from_str(value.unwrap_or_else(|| panic!("{name}: {variables:?}"))).unwrap()
    };
    for (name, property, empty) in [
        ("IMAGE_ENTRYPOINT", "Entrypoint", json!([])),
        ("IMAGE_CMD", "Cmd", json!([])),
        ("IMAGE_ENV", "Env", json!([])),
        ("IMAGE_USER", "User", json!("")),
        ("IMAGE_WORKING_DIR", "WorkingDir", json!("")),
        ("IMAGE_LABELS", "Labels", json!({})),
        ("IMAGE_EXPOSED_PORTS", "ExposedPorts", json!({})),
        ("IMAGE_VOLUMES", "Volumes", json!({})),
        ("IMAGE_STOP_SIGNAL", "StopSignal", json!("")),
    ] {
        assert_eq!(
            value(name),
            *config.get(property).unwrap_or(&empty),
            "{name}"
        );
    }
}

fn check(desk: &Desk, tools: &Tools, image: &Image, expected: &str) {
    let mut trees = Vec::new();
    let idle = desk.script("idle.sh", "true");
    for Way {
        name: way,
        bring,
        is_started,
    } in WAYS_IN
    {
        bring(desk, image, way);
        if !is_started {
            trees.push((way.to_owned(), deploy(desk, way, &idle)));
            continue;
        }
        desk.run("rm").args(["-f", "log"]).ok();
        let config = image.config()["config"].clone();
        trees.push((way.to_owned(), deploy(desk, way, &script(desk))));
        assert_variables(desk, &config);
        wait::until_true("what the script started is done", || {
            desk.path("log").exists() && desk.read("log") == expected
        });
        let state: Value = serde_json::from_str(&desk.read("state.json")).unwrap();
        assert_eq!(state["Image"], config);
        let target = format!("docker://{}/configs/{way}:latest", desk.address());
        let inspected = desk
            .run("skopeo")
            .args(["inspect", "--config", "--tls-verify=false", &target])
            .ok();
        let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
        assert_eq!(inspected["config"], config);
        assert_eq!(started_in_chroot(desk, way, &config), expected);
        assert_eq!(started_by_buildah(desk, tools, way), expected);
    }
    trees.push(("flattening".to_owned(), flattened(desk, image)));
    assert_same(desk, tools, image, &trees);
}

/// Returns the program of an image and its arguments.
fn command(config: &Value) -> Vec<String> {
    let mut command = texts(&config["Entrypoint"]);
    command.extend(texts(&config["Cmd"]));
    command
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

/// Starts what the image says in the deployed tree, and returns what it prints.
fn started_in_chroot(desk: &Desk, name: &str, config: &Value) -> String {
    let answer = desk
        .run("env")
        .arg("-i")
        .args(texts(&config["Env"]))
        .args(["/usr/sbin/chroot", "--userspec=1000:1001"])
        .arg(desk.current(&format!("hosts/{name}")))
        .args(command(config))
        .ok();
    answer.stdout
}

/// Has buildah fetch the configuration as an image and run what it says.
fn started_by_buildah(desk: &Desk, tools: &Tools, name: &str) -> String {
    let source = format!("docker://{}/configs/{name}:latest", desk.address());
    let container = tools
        .buildah(desk)
        .args(["from", "--quiet", "--tls-verify=false", &source])
        .ok();
    let container = container.stdout.trim();
    let inspected = tools.buildah(desk).args(["inspect", container]).ok();
    let inspected: Value = serde_json::from_str(&inspected.stdout).unwrap();
    let answer = tools
        .buildah(desk)
        .args(["run", "--isolation", "chroot", container, "--"])
        .args(command(&inspected["OCIv1"]["config"]))
        .ok();
    tools.buildah(desk).args(["rm", container]).ok();
    answer.stdout
}

#[test]
fn image_of_packages_is_on_the_host_what_it_is_elsewhere_and_runs() {
    const NAME: &str = "image_of_packages_is_on_the_host_what_it_is_elsewhere_and_runs";
    let Some(tools) = Tools::find(NAME) else {
        return;
    };
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let image = tools.of_packages(&desk);
    assert_eq!(image.layers().len(), 9);
    check(&desk, &tools, &image, "good day from /usr/bin/perl\n");
    goes_through_links(&desk, &tools, &image);
}

/// What goes through symbolic links of lower layers arrives where they lead, once it is imported; hosts do
/// not take it from others.
fn goes_through_links(desk: &Desk, tools: &Tools, image: &Image) {
    let image = tools.through_links(desk, image);
    let script = desk.script("nothing.sh", "true");
    let mut trees = Vec::new();
    for (name, more) in [("through", &[][..]), ("through-flat", &["--flatten"])] {
        let reference = image.reference();
        import(desk, name, &[&[&*reference], more].concat()).ok();
        trees.push((name.to_owned(), deploy(desk, name, &script)));
    }
    assert_same(desk, tools, &image, &trees);
    by_skopeo(desk, &image, "through-skopeo");
    let refused = desk.agent_once("through-skopeo", "hosts/refused", &script);
    let refused = refused.code(1);
    assert!(refused.stderr.contains("entry `link-too`"), "{refused}");
}

#[test]
fn image_that_was_built_by_commands_is_on_the_host_what_it_is_elsewhere_and_runs() {
    const NAME: &str =
        "image_that_was_built_by_commands_is_on_the_host_what_it_is_elsewhere_and_runs";
    let Some(tools) = Tools::find(NAME) else {
        return;
    };
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let image = tools.built(&desk);
    assert_eq!(image.layers().len(), 4);
    check(&desk, &tools, &image, "hello\n");
}
