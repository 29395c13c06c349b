//! Several registries over one bucket, as somebody runs them who cannot do without: clients do not notice which one
//! they speak to.

use deploy_tests::desk::Desk;
use deploy_tests::minio::Minio;
use deploy_tests::replicas::Replicas;
use deploy_tests::{http, oci, peer_or_skip, wait};
use rand::RngExt;

fn random(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    rand::rng().fill(&mut bytes[..]);
    bytes
}

#[test]
fn upload_begun_on_one_replica_is_continued_on_another_and_closed_on_a_third() {
    let test = "upload_begun_on_one_replica_is_continued_on_another_and_closed_on_a_third";
    let minio = Minio::start(&peer_or_skip!(test, Minio::PROGRAM));
    let replicas = Replicas::start(&minio, "uploads", 3, &[]);
    for size in [1_000, 200_000, 3_000_000, 13_000_000] {
        let bytes = random(size);
        let digest = oci::digest(&bytes);
        let location = oci::open_upload(&replicas.replica(0), "a/b").unwrap();
        let mut start = 0;
        for (number, piece) in bytes.chunks(size / 4 + 1).enumerate() {
            let range = format!("{start}-{}", start + piece.len() - 1);
            let headers = [("Content-Range", range.as_str())];
            let address = replicas.replica((number + 1) % 3);
            let reply = http::request(&address, "PATCH", &location, &headers, piece).unwrap();
            assert_eq!(reply.status, 202, "{}", reply.text());
            start += piece.len();
            for index in 0..3 {
                let reply = http::get(&replicas.replica(index), &location).unwrap();
                let range = format!("0-{}", start - 1);
                assert_eq!(reply.header("range"), Some(range.as_str()));
            }
        }
        let target = oci::with_digest(&location, &digest);
        let reply = http::request(&replicas.replica(2), "PUT", &target, &[], b"").unwrap();
        assert_eq!(reply.status, 201, "{}", reply.text());
        for index in 0..3 {
            let found = oci::blob(&replicas.replica(index), "a/b", &digest).unwrap();
            assert!(found.is_some_and(|found| found == bytes));
        }
    }
    assert_eq!(minio.open_multipart_uploads(), 0);
}

#[test]
fn tag_moved_on_one_replica_is_seen_by_the_next_request_to_any_other() {
    let test = "tag_moved_on_one_replica_is_seen_by_the_next_request_to_any_other";
    let minio = Minio::start(&peer_or_skip!(test, Minio::PROGRAM));
    let replicas = Replicas::start(&minio, "tags", 2, &[]);
    for round in 0..20 {
        let layer = random(100);
        let writer = replicas.replica(round % 2);
        let digest = oci::push_image(&writer, "a/b", "latest", &layer).unwrap();
        for index in 0..2 {
            let found = oci::manifest(&replicas.replica(index), "a/b", "latest").unwrap();
            assert_eq!(found.unwrap().digest, digest);
        }
    }
}

#[test]
fn long_poll_on_one_replica_wakes_for_a_change_made_through_another() {
    let test = "long_poll_on_one_replica_wakes_for_a_change_made_through_another";
    let minio = Minio::start(&peer_or_skip!(test, Minio::PROGRAM));
    let replicas = Replicas::start(&minio, "polls", 2, &[]);
    let mut digest = oci::push_image(&replicas.replica(0), "a/b", "latest", b"0").unwrap();
    for round in 1_u8..4 {
        let known = format!("\"{digest}\"");
        let headers = [("If-None-Match", known.as_str()), ("Prefer", "wait=300")];
        let target = "/v2/a/b/manifests/latest";
        let waiting: Vec<_> = (0..10)
            .map(|_| http::begin(&replicas.replica(1), "GET", target, &headers, 0).unwrap())
            .collect();
        // They wait once another request has been answered after them.
        assert_eq!(
            http::get(&replicas.replica(1), "/readyz").unwrap().status,
            200
        );
        digest = oci::push_image(&replicas.replica(0), "a/b", "latest", &[round]).unwrap();
        for stream in waiting {
            let reply = http::finish(stream, "GET").unwrap();
            assert_eq!(reply.status, 200);
            assert_eq!(reply.header("docker-content-digest"), Some(digest.as_str()));
            assert_eq!(reply.header("preference-applied"), Some("wait=300"));
        }
    }
}

#[test]
fn agent_follows_a_project_through_replicas_of_which_one_is_gone() {
    let test = "agent_follows_a_project_through_replicas_of_which_one_is_gone";
    let minio = Minio::start(&peer_or_skip!(test, Minio::PROGRAM));
    let mut replicas = Replicas::start(&minio, "project", 2, &[]);
    let desk = Desk::at(replicas.address());
    desk.push_file("code", "v1", "program", "one");
    desk.compose("project", &["code:v1"]);
    let script = desk.script("deploy.sh", "cp $NEWROOT/program deployed");
    let deployed = || std::fs::read_to_string(desk.path("deployed")).unwrap_or_default();
    let _agent = desk.agent("project", "host", &script, &["-poll", "100ms"]);
    wait::until_true("the first version is deployed", || deployed() == "one");
    replicas.kill(0);
    desk.push_file("code", "v2", "program", "two");
    desk.change("project", "code", "v2");
    wait::until_true("the second version is deployed", || deployed() == "two");
}
