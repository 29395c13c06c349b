//! The walkthrough of the README, carried out as it stands there: against our registry, and against one that is not
//! ours.

#![expect(
    clippy::unwrap_used,
    reason = "a scenario fails where something does not hold"
)]

use deploy_tests::distribution::Distribution;
use deploy_tests::port::Port;
use deploy_tests::walkthrough::{self, Step};
use deploy_tests::{peer_or_skip, peers, programs};

/// The address that the README shows; the test has another port in its place.
const SHOWN: &str = "localhost:2022";

fn steps(section: &str) -> Vec<Step> {
    let readme = std::fs::read_to_string(programs::workspace().join("README.md")).unwrap();
    let steps = walkthrough::steps(&readme, section);
    assert!(
        steps.len() > 5,
        "the README has a walkthrough of {} steps",
        steps.len()
    );
    steps
}

fn carry_out(steps: Vec<Step>, port: u16) {
    let steps: Vec<Step> = steps
        .into_iter()
        .map(|step| {
            let moved = |text: &str| text.replace(SHOWN, &format!("localhost:{port}"));
            Step {
                command: moved(&step.command),
                answer: step.answer.iter().map(|line| moved(line)).collect(),
            }
        })
        .collect();
    let home = tempfile::tempdir().unwrap();
    let outcomes =
        walkthrough::carry_out(&steps, home.path(), &peers::path_variable(), port).unwrap();
    let complaints: Vec<String> = outcomes
        .iter()
        .filter_map(walkthrough::Outcome::complaint)
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn readme_walkthrough_answers_as_shown() {
    let port = Port::reserve();
    carry_out(steps("Walkthrough"), port.number());
}

#[test]
fn readme_section_on_other_clients_answers_as_shown() {
    for client in ["oras", "crane", "skopeo"] {
        peer_or_skip!("readme_section_on_other_clients_answers_as_shown", client);
    }
    let mut both = steps("Walkthrough");
    both.extend(steps("With any OCI client"));
    let port = Port::reserve();
    carry_out(both, port.number());
}

#[test]
fn readme_section_on_keys_answers_as_shown() {
    for client in ["oras", "crane"] {
        peer_or_skip!("readme_section_on_keys_answers_as_shown", client);
    }
    let port = Port::reserve();
    carry_out(steps("With keys"), port.number());
}

#[test]
fn readme_walkthrough_answers_the_same_on_distribution() {
    let program = peer_or_skip!(
        "readme_walkthrough_answers_the_same_on_distribution",
        Distribution::PROGRAM
    );
    let distribution = Distribution::start(&program);
    let port = distribution
        .address()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let ours = |step: &Step| step.command.trim_start().starts_with("deploy-registry");
    carry_out(
        steps("Walkthrough")
            .into_iter()
            .filter(|step| !ours(step))
            .collect(),
        port,
    );
}
