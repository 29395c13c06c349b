//! Operators' work on configurations: changes made at once, changes that change nothing, and what a release says
//! about itself.

use deploy_tests::desk::Desk;
use deploy_tests::oci;
use deploy_tests::registry::Registry;

#[test]
fn fifty_changes_made_at_once_are_fifty_releases() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let components: Vec<String> = (0..50).map(|number| format!("part{number:02}")).collect();
    let layer = |text: &str| {
        deploy_tests::archive::Archive::new()
            .file(text, text)
            .gzip()
    };
    for component in &components {
        for version in ["v1", "v2"] {
            let layer = layer(&format!("{component}-{version}"));
            let repository = format!("components/{component}");
            oci::push_blob(desk.address(), &repository, b"{}").unwrap();
            oci::push_blob(desk.address(), &repository, &layer).unwrap();
            oci::push_manifest(
                desk.address(),
                &repository,
                version,
                &oci::artifact(&layer, version),
            )
            .unwrap();
        }
    }
    let layers = components
        .iter()
        .flat_map(|component| ["-layer".to_owned(), format!("{component}:v1")]);
    desk.deployctl(["addconf", "-name", "project"])
        .args(layers)
        .ok();

    std::thread::scope(|scope| {
        for component in &components {
            let change = desk.deployctl([
                "changeconf",
                "-name",
                "project",
                "-component",
                component,
                "-version",
                "v2",
            ]);
            scope.spawn(|| change.ok());
        }
    });

    let mut tags = oci::tags(desk.address(), "configs/project").unwrap();
    tags.retain(|tag| tag != "latest");
    assert_eq!(tags.len(), 51, "{tags:?}");
    let latest = oci::manifest(desk.address(), "configs/project", "latest")
        .unwrap()
        .unwrap();
    let last = oci::manifest(desk.address(), "configs/project", "v51")
        .unwrap()
        .unwrap();
    assert_eq!(latest.digest, last.digest);
    let versions = last.json["layers"].as_array().unwrap().iter();
    let versions: Vec<_> = versions
        .map(|layer| layer["annotations"]["dev.deploytools.version"].as_str())
        .collect();
    assert_eq!(versions, [Some("v2"); 50]);
    // Every release was made from the one before it: none was made beside another and lost its change.
    let mut newer = last;
    for number in (1..=50).rev() {
        let older = oci::manifest(desk.address(), "configs/project", &format!("v{number}"))
            .unwrap()
            .unwrap();
        assert_eq!(
            newer.annotation("dev.deploytools.parent"),
            older.digest,
            "parent of v{}",
            number + 1
        );
        newer = older;
    }
}

#[test]
fn change_that_changes_nothing_makes_no_release() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.push_file("code", "v1", "program", "one");
    desk.compose("project", &["code:v1"]);
    let before = oci::picture(desk.address()).unwrap();
    desk.change("project", "code", "v1");
    desk.deployctl(["bumpconf", "-name", "project", "-component", "code"])
        .ok();
    desk.compose("project", &["code:v1"]);
    assert_eq!(oci::picture(desk.address()).unwrap(), before);
    assert_eq!(
        before
            .keys()
            .filter(|name| name.starts_with("configs/"))
            .count(),
        2,
        "{before:?}"
    );
}

#[test]
fn bump_takes_the_newest_version_and_says_how_to_roll_back() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.push_file("code", "v1", "program", "one");
    desk.compose("project", &["code:v1"]);
    desk.push_file("code", "v2", "program", "two");
    let answer = desk
        .deployctl(["bumpconf", "-name", "project", "-component", "code"])
        .ok();
    let hint = "changeconf -name=\"project\" -component=\"code\" -version=\"v1\"";
    assert!(answer.stdout.contains(hint), "{answer}");
    let latest = oci::manifest(desk.address(), "configs/project", "latest")
        .unwrap()
        .unwrap();
    assert_eq!(
        latest.json["layers"][0]["annotations"]["dev.deploytools.version"],
        "v2"
    );
}

#[test]
fn version_in_use_is_kept_until_its_configuration_goes() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.push_file("code", "v1", "program", "one");
    desk.compose("project", &["code:v1"]);
    let before = oci::picture(desk.address()).unwrap();
    for command in [
        &["delver", "-name", "code", "-version", "v1"][..],
        &["delcomp", "-name", "code"],
    ] {
        let answer = desk.deployctl(command.iter().copied()).code(1);
        assert!(answer.stderr.contains("project"), "{answer}");
    }
    desk.deployctl(["delconf", "-name", "project"]).code(1);
    assert_eq!(oci::picture(desk.address()).unwrap(), before);

    desk.deployctl(["delconf", "-name", "project", "-force"])
        .ok();
    desk.deployctl(["delver", "-name", "code", "-version", "v1"])
        .ok();
    assert!(oci::picture(desk.address()).unwrap().is_empty());
}

#[test]
fn prefix_keeps_two_worlds_apart_in_one_registry() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    desk.write("one/file", "one");
    desk.deployctl(["--prefix", "acme/prod", "push", "code:v1", "one"])
        .ok();
    desk.deployctl([
        "--prefix",
        "acme/prod",
        "addconf",
        "-name",
        "project",
        "-layer",
        "code:v1",
    ])
    .ok();
    let mut names = oci::repositories(desk.address()).unwrap();
    names.sort();
    assert_eq!(
        names,
        ["acme/prod/components/code", "acme/prod/configs/project"]
    );
    assert_eq!(desk.deployctl(["components"]).ok().stdout, "");
    assert_eq!(
        desk.deployctl(["--prefix", "acme/prod", "components"])
            .ok()
            .stdout
            .trim(),
        "code"
    );
}

#[test]
fn everything_that_is_shown_is_shown_as_json_too() {
    let registry = Registry::start();
    let desk = Desk::stocked(registry.address());
    assert_eq!(desk.json(["components"]), serde_json::json!(["code"]));
    assert_eq!(
        desk.json(["configurations"]),
        serde_json::json!(["project"])
    );
    let versions = desk.json(["showcomp", "-name", "code"]);
    assert_eq!(
        [&versions[0]["version"], &versions[1]["version"]],
        ["v1", "v2"]
    );
    let shown = desk.json(["showconf", "-name", "project"]);
    let release = oci::manifest(desk.address(), "configs/project", "v1")
        .unwrap()
        .unwrap();
    assert_eq!(shown["id"], release.digest.as_str());
    assert_eq!(shown["layers"][0]["component"], "code");
    assert_eq!(shown["layers"][0]["version"], "v1");
}
