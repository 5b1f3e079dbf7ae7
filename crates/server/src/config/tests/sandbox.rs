//! How sandboxes are made, and what they see.

use super::*;

#[test]
fn what_sandboxes_see_of_the_host_is_checked_and_shown() {
    let room = tempfile::tempdir().expect("a directory");
    let tools = room.path().display();
    let entry = |from: &str, to: &str| {
        format!("data_dir = '{tools}/data'\n[[sandbox.read_only]]\nfrom = '{from}'\nto = '{to}'\n")
    };
    let fine = room.path().join("tools");
    fs::create_dir(&fine).expect("made");
    let fine = fine.display().to_string();
    let config = plain(&entry(&fine, "/opt/tools"), &[]);
    let shown = show(&config);
    assert!(
        shown.contains("[[sandbox.read_only]]") && shown.contains("to = \"/opt/tools\""),
        "{shown}"
    );
    refused(
        &entry("tools", "/opt/tools"),
        &[],
        "sandbox.read_only[0].from: tools is not an absolute path",
    );
    refused(
        &entry(&tools.to_string(), "/opt/tools"),
        &[],
        "would show the data directory",
    );
    refused(
        &entry(&fine, "/workspace/tools"),
        &[],
        "sandbox.read_only[0].to: \"/workspace/tools\" overlaps /workspace",
    );
    let twice = entry(&fine, "/opt/tools")
        + &format!("[[sandbox.read_only]]\nfrom = '{fine}'\nto = '/opt'\n");
    refused(&twice, &[], "sandbox.read_only[1].to");
}

/// security SBX-2: which provider it is is never guessed, and what belongs to the other one is refused.
#[test]
fn sbx_2_sandboxes_are_containers_only_when_that_is_said_in_full() {
    let said = "[sandbox]\nprovider = 'container'\n[sandbox.container]\nimage = 'base'\n";
    let config = plain(said, &[]);
    let settings = config.sandbox.container.as_ref().expect("containers");
    assert_eq!(
        (settings.image.as_str(), settings.shared_folders),
        ("base", true)
    );
    assert_eq!(settings.endpoint, None);
    let shown = show(&config);
    assert!(
        shown.contains("provider = \"container\"") && shown.contains("image = \"base\""),
        "{shown}"
    );
    let all = format!(
        "{said}endpoint = '/run/engine.sock'\nruntime = 'runsc'\nuserns = 'auto'\ncpus = 1.5\n\
         shared_folders = false\ndoor = 'streams'\nsandboxd = '/opt/sandboxd'"
    );
    let shown = show(&plain(&all, &[("DOCKER_HOST", "unix:///other.sock")]));
    for part in [
        "/run/engine.sock",
        "runsc",
        "auto",
        "1.5",
        "shared_folders = false",
        "door = \"streams\"",
        "/opt/sandboxd",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let from_environment = plain(said, &[("DOCKER_HOST", "unix:///run/its.sock")]);
    let settings = from_environment.sandbox.container.expect("containers");
    assert_eq!(settings.endpoint.as_deref(), Some("unix:///run/its.sock"));
    refused(
        said,
        &[("DOCKER_HOST", "tcp://127.0.0.1:2375")],
        "DOCKER_HOST: must be unix:///PATH",
    );
    refused(
        &format!("{said}endpoint = 'https://host'"),
        &[],
        "sandbox.container.endpoint",
    );
    refused(&format!("{said}cpus = 0.0"), &[], "sandbox.container.cpus");
    for door in ["door = 'none'", "shared_folders = false\ndoor = 'folder'"] {
        refused(&format!("{said}{door}"), &[], "sandbox.container.door");
    }
    assert!(show(&config).contains("door = \"auto\""));
    refused(
        &format!("{said}sandboxd = 'here'"),
        &[],
        "sandbox.container.sandboxd",
    );
    refused(
        "[sandbox]\nprovider = 'container'",
        &[],
        "sandbox.container.image: is needed",
    );
    refused(
        "[sandbox.container]\nimage = 'base'",
        &[],
        "sandbox.container: is for",
    );
    refused(
        "[sandbox]\nprovider = 'none'",
        &[],
        "unknown variant `none`",
    );
    let bound = "[sandbox]\nprovider = 'container'\n[[sandbox.read_only]]\nfrom = '/usr/share'\nto = '/opt/a'\n\
                 [sandbox.container]\nimage = 'base'";
    refused(bound, &[], "sandbox.read_only: is for name spaces");
}

/// security SBX-8, runtime EN-3
#[test]
fn sbx_8_sandboxes_wait_only_when_that_is_said() {
    let config = plain("", &[]);
    assert_eq!(config.environments.warm, 0);
    assert!(show(&config).contains("warm = 0"));
    let config = plain("[environments]\nwarm = 2", &[]);
    assert_eq!(config.environments.warm, 2);
    assert!(show(&config).contains("warm = 2"));
    refused("[environments]\nwarm = 65", &[], "must be at most 64");
    let containers = "[sandbox]\nprovider = 'container'\n[sandbox.container]\nimage = 'base'\n";
    refused(
        &format!("{containers}[environments]\nwarm = 1"),
        &[],
        "environments.warm: is for name spaces",
    );
}
