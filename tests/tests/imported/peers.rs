//! Images that other projects' tools make, and our configurations as they see them.

use deploy_tests::desk::Desk;
use deploy_tests::peer_or_skip;
use deploy_tests::registry::Registry;
use serde_json::Value;

use crate::image::{Image, Stored};
use crate::{digests, import, release};

#[test]
fn what_skopeo_copies_is_imported_alike() {
    let skopeo = peer_or_skip!("what_skopeo_copies_is_imported_alike", "skopeo");
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let image = Image::example();
    image.layout(&desk, "layout", Stored::Gzip);
    let docker = format!("docker://{}/team/app", desk.address());
    let copy = |flags: &[&str], target: &str| {
        let fixed = [
            "copy",
            "-q",
            "--insecure-policy",
            "--dest-tls-verify=false",
            "--tmpdir",
        ];
        let run = desk.run(&skopeo).args(fixed).arg(desk.home());
        run.args(flags).args(["oci:layout:1", target]).ok();
    };
    copy(&[], "docker-archive:archive.tar:app:1");
    copy(&[], "oci-archive:layout.tar:1");
    copy(&[], &format!("{docker}:oci"));
    copy(&["--format", "v2s2"], &format!("{docker}:docker"));
    import(&desk, ["oci:layout:1", "-name", "original"]);
    let (original, config) = release(&desk, "original");
    let [oci, schema2] = ["oci", "docker"].map(|tag| format!("{docker}:{tag}"));
    for source in ["oci-archive:layout.tar:1", &oci, &schema2] {
        import(&desk, [source, "-name", "copy"]);
        let (copy, copied) = release(&desk, "copy");
        assert_eq!(digests(&copy), digests(&original), "{source}");
        assert_eq!(copied["config"], config["config"], "{source}");
        let types = copy.json["layers"].as_array().unwrap().iter();
        let types: Vec<&Value> = types.map(|layer| &layer["mediaType"]).collect();
        assert_eq!(
            types, ["application/vnd.oci.image.layer.v1.tar+gzip"; 4],
            "{source}"
        );
    }
    // Its archives have plain layers.
    import(&desk, ["docker-archive:archive.tar", "-name", "plain"]);
    let (plain, _) = release(&desk, "plain");
    assert_eq!(digests(&plain), image.diff_ids());
}

#[test]
fn skopeo_sees_the_configuration_of_the_image() {
    let skopeo = peer_or_skip!("skopeo_sees_the_configuration_of_the_image", "skopeo");
    let registry = Registry::start();
    let desk = Desk::at(registry.address());
    let image = Image::example();
    desk.write("old.tar", image.docker_old());
    import(&desk, ["docker-archive:old.tar"]);
    let target = format!("docker://{}/configs/app.1", desk.address());
    let inspect = ["inspect", "--tls-verify=false", "--config", &target];
    let answer = desk.run(&skopeo).args(inspect).ok();
    let seen: Value = serde_json::from_str(&answer.stdout).unwrap();
    for key in ["Env", "Entrypoint", "Cmd", "WorkingDir", "User", "Labels"] {
        assert_eq!(seen["config"][key], image.config["config"][key], "{key}");
    }
}
