//! The unit of systemd that starts an imported image.

use deploy_tests::desk::Desk;
use deploy_tests::registry::Registry;
use serde_json::json;

use crate::{image::Image, import, importer};

#[test]
fn a_unit_starts_what_the_image_says_in_the_tree_that_the_host_has() {
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let mut image = Image::example();
    image.config["config"]["Entrypoint"] = json!(["program", "two words"]);
    desk.write("image.tar", image.docker_old());
    import(&desk, ["docker-archive:image.tar", "-name", "app"]);
    let root = desk.path("root");
    let unit = ["unit", "-name", "app", "-root", root.to_str().unwrap()];
    // Nothing is there that the program could be looked for in.
    let answer = importer(&desk, unit).code(1);
    assert!(
        answer.stderr.contains("`program` is in none of"),
        "{answer}"
    );
    let script = desk.script("deploy.sh", r#"ln -sfnT "$NEWROOT" root"#);
    desk.agent_once("app", "host", &script).ok();
    let text = importer(&desk, unit).ok().stdout;
    for line in [
        &format!("RootDirectory={}", root.display()),
        "User=7",
        "Group=8",
        "WorkingDirectory=/etc",
        r#"ExecStart="/bin/program" "two words" "serve""#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
    }
    let answer = importer(&desk, ["unit", "-name", "missing"]).code(1);
    assert!(answer.stderr.contains("`missing`"), "{answer}");
    importer(&desk, ["unit"]).code(2);
}
