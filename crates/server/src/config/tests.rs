use std::collections::HashMap;
use std::fs;

use manyhands_brain::models::ProviderSpec;

use super::show::show;
use super::*;

mod repositories;

fn merge(flags: Flags, toml: &str, environment: &[(&str, &str)]) -> Result<Config, Error> {
    let file = toml::from_str(toml).map_err(|error| wrong("file", error.message()))?;
    let environment: HashMap<&str, &str> = environment.iter().copied().collect();
    Config::merge(flags, file, &|name| {
        environment
            .get(name)
            .map(|text| (*text).to_owned())
            .ok_or(VarError::NotPresent)
    })
}

fn plain(toml: &str, environment: &[(&str, &str)]) -> Config {
    merge(Flags::default(), toml, environment).expect("accepted")
}

#[track_caller]
fn refused(toml: &str, environment: &[(&str, &str)], problem: &str) {
    let error = merge(Flags::default(), toml, environment)
        .expect_err(problem)
        .to_string();
    assert!(error.contains(problem), "{error}");
}

#[test]
fn defaults_listen_on_loopback_with_sqlite() {
    let config = plain("", &[]);
    assert!(config.listen.ip().is_loopback());
    assert!(matches!(config.database, Database::Sqlite { .. }));
    assert!(!config.legacy_event_names);
    assert_eq!(config.sandbox, Sandbox::default());
}

#[test]
fn links_begin_with_a_place_of_the_web() {
    let file = |url: &str| format!("[server]\npublic_url = '{url}'");
    assert_eq!(plain("", &[]).public_url, None);
    let config = plain(&file("https://Agents.example.com:443/base/"), &[]);
    let place = "https://agents.example.com/base";
    assert_eq!(config.public_url.as_deref(), Some(place));
    assert!(show(&config).contains(&format!("public_url = \"{place}\"")));
    let flags = Flags {
        public_url: Some("http://localhost:8787".to_owned()),
        ..Flags::default()
    };
    let config = merge(flags, &file("https://example.com"), &[]).expect("accepted");
    assert_eq!(config.public_url.as_deref(), Some("http://localhost:8787"));
    for url in [
        "agents.example.com",
        "ftp://example.com",
        "https://me@example.com",
        "https://:secret@example.com",
        "https://example.com/?a=b",
        "https://example.com/#a",
        "",
    ] {
        refused(&file(url), &[], "server.public_url");
    }
}

#[test]
fn flags_win_over_the_file() {
    let toml =
        "listen = '127.0.0.1:1'\ndata_dir = '/from/file'\n[database]\nurl = 'postgres://file/db'";
    let config = plain(toml, &[]);
    assert_eq!(
        (config.listen.port(), config.data_dir.as_path()),
        (1, Path::new("/from/file"))
    );
    let flags = Flags {
        listen: Some("127.0.0.1:2".parse().expect("an address")),
        data_dir: Some("/from/flag".into()),
        database_url: Some(SecretString::from("postgresql://flag/db")),
        ..Flags::default()
    };
    let config = merge(flags, toml, &[]).expect("accepted");
    assert_eq!(
        (config.listen.port(), config.data_dir.as_path()),
        (2, Path::new("/from/flag"))
    );
    let Database::Postgres { url } = config.database else {
        panic!("not PostgreSQL")
    };
    assert_eq!(url.expose_secret(), "postgresql://flag/db");
}

#[test]
fn a_server_has_a_role_and_alone_it_has_all_of_them() {
    let postgres = "[database]\nurl = 'postgres://file/db'\n[server]\n";
    let config = plain("", &[]);
    assert_eq!((config.role, config.drain), (Role::All, Duration::ZERO));
    let config = plain(&format!("{postgres}role = 'brain'\ndrain_seconds = 5"), &[]);
    assert_eq!(
        (config.role, config.drain),
        (Role::Brain, Duration::from_secs(5))
    );
    assert!(show(&config).contains("[server]\ndrain_seconds = 5\nrole = \"brain\""));
    let flags = Flags {
        role: Some(Role::Api),
        ..Flags::default()
    };
    let config = merge(flags, &format!("{postgres}role = 'brain'"), &[]).expect("accepted");
    assert_eq!(config.role, Role::Api, "the flag wins");
    refused(
        &format!("{postgres}role = 'worker'"),
        &[],
        "none of all, api and brain",
    );
    refused(
        &format!("{postgres}drain_seconds = 3601"),
        &[],
        "must be at most 3600",
    );
    for alone in ["api", "brain"] {
        refused(
            &format!("[server]\nrole = '{alone}'"),
            &[],
            "SQLite serves one",
        );
    }
    plain("[server]\nrole = 'all'", &[]);
}

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

#[test]
fn without_models_in_the_file_the_environment_says_who_serves_claude() {
    #[track_caller]
    fn check(environment: &[(&str, &str)], expected: Option<(Option<&str>, Option<&str>)>) {
        let config = plain("", environment);
        let served = match &config.models[0].provider {
            ProviderSpec::Anthropic { base_url, key, .. } => Some((
                base_url.as_ref().map(|url| url.as_str()),
                key.as_ref().map(ExposeSecret::expose_secret),
            )),
            ProviderSpec::OpenAi { .. } | ProviderSpec::Scripted { .. } => None,
        };
        assert_eq!(config.models[0].id, "claude-*");
        assert_eq!(served, expected);
    }
    let base = ("MANYHANDS_ANTHROPIC_BASE_URL", "http://127.0.0.1:9/");
    check(&[], None);
    check(&[("ANTHROPIC_API_KEY", "")], None);
    check(&[("ANTHROPIC_API_KEY", "k")], Some((None, Some("k"))));
    check(&[base], Some((Some("http://127.0.0.1:9/"), None)));
    check(
        &[base, ("ANTHROPIC_API_KEY", "k")],
        Some((Some("http://127.0.0.1:9/"), Some("k"))),
    );
    // That variable points clients at this server.
    check(&[("ANTHROPIC_BASE_URL", "http://127.0.0.1:8787")], None);
}

#[test]
fn models_of_the_file_are_complete_entries() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = dir.path().join("key");
    fs::write(&key, "from-file\n").expect("written");
    let toml = format!(
        r#"
        [[models]]
        id = "claude-*"
        provider = "anthropic"
        thinking = "adaptive"

        [[models]]
        id = "local"
        provider = "anthropic"
        base_url = "http://127.0.0.1:9"
        key = {{ file = "{}" }}
        thinking = {{ budget = 2048 }}
        effort = false
        context_window = 1000
        prices = {{ input = 1.0, output = 2.0, cache_read = 0.1, cache_write = 1.25 }}

        [[models]]
        id = "open"
        provider = "anthropic"
        base_url = "http://127.0.0.1:9"

        [[models]]
        id = "demo"
        provider = "scripted"
        script = "demo.yaml"
        "#,
        key.display()
    );
    let config = plain(&toml, &[("ANTHROPIC_API_KEY", "from-env")]);
    let key = |index: usize| match &config.models[index].provider {
        ProviderSpec::Anthropic { key, .. } => {
            key.as_ref().map(|key| key.expose_secret().to_owned())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(key(0).as_deref(), Some("from-env"));
    assert_eq!(key(1).as_deref(), Some("from-file"));
    assert_eq!(key(2), None, "the variable's key goes to no other endpoint");
    assert_eq!(config.models.len(), 4);
    let shown = show(&config);
    for secret in ["from-env", "from-file"] {
        assert!(!shown.contains(secret) && !format!("{config:?}").contains(secret));
    }
    assert!(
        shown.contains("budget = 2048") && shown.contains("script = \"demo.yaml\""),
        "{shown}"
    );
    toml::from_str::<toml::Table>(&shown).expect("it prints TOML");
}

#[test]
fn chat_completions_endpoints_are_models_too() {
    let toml = r#"
        [[models]]
        id = "gpt-*"
        provider = "openai"
        effort = true

        [[models]]
        id = "local"
        provider = "openai"
        base_url = "http://127.0.0.1:8000/v1"
        key = { env = "LOCAL_KEY" }
        context_window = 32768
        max_output = 4096
        output_limit = "max_completion_tokens"
        mid_conversation_system = false
        first_byte_seconds = 1200

        [[models]]
        id = "open"
        provider = "openai"
        base_url = "http://127.0.0.1:11434/v1"
    "#;
    let config = plain(
        toml,
        &[("OPENAI_API_KEY", "from-env"), ("LOCAL_KEY", "local-key")],
    );
    let keys = config.models.iter().map(|spec| match &spec.provider {
        ProviderSpec::OpenAi { key, .. } => key.as_ref().map(ExposeSecret::expose_secret),
        other => panic!("{other:?}"),
    });
    let keys: Vec<_> = keys.collect();
    assert_eq!(keys, [Some("from-env"), Some("local-key"), None]);
    let efforts: Vec<bool> = config.models.iter().map(|spec| spec.effort).collect();
    assert_eq!(efforts, [true, false, false], "only where it is said");
    assert_eq!(config.models[1].mid_conversation_system, Some(false));
    let shown = show(&config);
    for secret in ["from-env", "local-key"] {
        assert!(!shown.contains(secret) && !format!("{config:?}").contains(secret));
    }
    for setting in [
        "provider = \"openai\"",
        "base_url = \"http://127.0.0.1:8000/v1\"",
        "output_limit = \"max_completion_tokens\"",
        "mid_conversation_system = false",
        "first_byte_seconds = 1200\nid = \"local\"",
        "silence_seconds = 90",
        "key = \"(none)\"",
    ] {
        assert!(shown.contains(setting), "{setting}: {shown}");
    }
}

#[test]
fn bu_2_prices_have_at_most_six_decimals() {
    let model = |prices: &str| {
        format!("[[models]]\nid = 'm'\nprovider = 'scripted'\nprices = {{ {prices} }}")
    };
    let config = plain(
        &model("input = 0.1, output = 2.5, cache_read = 0.000001, cache_write = 1"),
        &[],
    );
    let prices = config.models[0].prices.expect("prices");
    assert_eq!(prices.cache_write_1h, prices.cache_write);
    assert!(show(&config).contains("input = 0.1"), "{}", show(&config));
    refused(
        &model("input = 0.0000001, output = 1, cache_read = 0, cache_write = 0"),
        &[],
        "models[0].prices.input: expected dollars per million tokens with at most six decimals",
    );
    refused(
        &model("input = 0, output = -1, cache_read = 0, cache_write = 0"),
        &[],
        "models[0].prices.output: ",
    );
    refused(
        &model("input = 0, output = 1"),
        &[],
        "missing field `cache_read`",
    );
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    refused("flavour = 'mint'", &[], "unknown field `flavour`");
    refused("[sandbox]\nmemory = 1", &[], "unknown field `memory`");
    refused("listen = 'here'", &[], "listen: \"here\" is not ADDR:PORT");
    refused(
        "[database]\nurl = 'mysql://x'",
        &[],
        "database.url: expected postgres://",
    );
    refused(
        "[limits]\nconcurrent_sessions = 0",
        &[],
        "limits.concurrent_sessions: must be at least 1",
    );
    for (setting, problem) in [
        ("tool_rounds = 0", "limits.tool_rounds: must be at least 1"),
        (
            "parallel_calls = 0",
            "limits.parallel_calls: must be at least 1",
        ),
        (
            "compact_at = 0.0",
            "limits.compact_at: must be a part of the window",
        ),
        (
            "compact_at = nan",
            "limits.compact_at: must be a part of the window",
        ),
        (
            "retry_seconds = 86401",
            "limits.retry_seconds: must be at most one day",
        ),
        ("rounds = 1", "unknown field `rounds`"),
    ] {
        refused(&format!("[limits]\n{setting}"), &[], problem);
    }
    refused(
        "[sandbox]\nidle_seconds = 0",
        &[],
        "sandbox.idle_seconds: must be at least 1",
    );
    refused(
        "[sandbox]\nfirst_uid = 0",
        &[],
        "sandbox.first_uid: must be at least 1000",
    );
    refused(
        "[sandbox]\nfirst_uid = 4294967295",
        &[],
        "sandbox.uids: is not a range",
    );
    let base = ("MANYHANDS_ANTHROPIC_BASE_URL", "127.0.0.1:9");
    refused("", &[base], "MANYHANDS_ANTHROPIC_BASE_URL: ");
    let model = |rest: &str| format!("[[models]]\nid = 'm'\nprovider = {rest}");
    refused(&model("'gemini'"), &[], "unknown variant `gemini`");
    refused(
        &model("'openai'"),
        &[("ANTHROPIC_API_KEY", "k")],
        "models[0].key: is missing: name its source, or set OPENAI_API_KEY",
    );
    refused(
        &model("'openai'\nscript = 'x'"),
        &[],
        "models[0]: only a scripted model has a script",
    );
    refused(
        &model("'openai'\noutput_limit = 'most'"),
        &[],
        "unknown variant `most`",
    );
    refused(
        &model("'scripted'\noutput_limit = 'max_tokens'"),
        &[],
        "models[0]: only a model of provider openai has an output_limit",
    );
    refused(
        &model("'openai'\nbase_url = 'http://x'\nsilence_seconds = 0"),
        &[],
        "models[0].silence_seconds: must be from 1 to 86400 seconds",
    );
    refused(
        &model("'openai'\nbase_url = 'localhost:8000'"),
        &[],
        "models[0].base_url: ",
    );
    refused(&model("'anthropic'"), &[], "models[0].key: is missing");
    refused(&model("'anthropic'\nkey = 'sk-in-the-file'"), &[], "file: ");
    refused(
        &model("'anthropic'\nkey = { env = 'NOPE' }"),
        &[],
        "models[0].key: the environment variable NOPE is not set",
    );
    refused(
        &model("'anthropic'\nkey = { file = '/nope' }"),
        &[],
        "models[0].key: /nope cannot be read",
    );
    refused(
        &model("'anthropic'\nbase_url = 'ftp://x'"),
        &[],
        "models[0].base_url: ",
    );
    refused(
        &model("'scripted'\nbase_url = 'http://x'"),
        &[],
        "models[0]: a scripted model has neither",
    );
    refused(
        "[[models]]\nid = 'a*b*'\nprovider = 'scripted'",
        &[],
        "models[0].id: expected a model id",
    );
}

/// runtime TC-8
#[test]
fn tc_8_a_judge_is_a_models_id() {
    assert_eq!(plain("", &[]).judge, None);
    let config = plain("[permissions]\njudge = 'claude-haiku-5-5'", &[]);
    assert_eq!(config.judge.as_deref(), Some("claude-haiku-5-5"));
    assert!(show(&config).contains("judge = \"claude-haiku-5-5\""));
    refused("[permissions]\nguard = 'x'", &[], "unknown field `guard`");
}

#[test]
fn a_wrong_file_is_named_with_its_line_and_without_its_text() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("manyhands.toml");
    fs::write(
        &path,
        "listen = '127.0.0.1:0'\n[database]\nurl = postgres://u:hunter2@host/db\n",
    )
    .expect("written");
    let error = Config::load(Flags {
        config: Some(path.clone()),
        ..Flags::default()
    })
    .expect_err("refused")
    .to_string();
    assert!(error.contains("manyhands.toml is wrong: line 3"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let missing = Flags {
        config: Some(dir.path().join("nope.toml")),
        ..Flags::default()
    };
    assert!(
        Config::load(missing)
            .expect_err("refused")
            .to_string()
            .contains("nope.toml cannot be read")
    );
}

#[test]
fn a_database_password_is_not_shown() {
    let config = plain(
        "[database]\nurl = 'postgres://u:hunter2@db.example/name?options=hunter2'",
        &[],
    );
    let shown = show(&config);
    assert!(
        shown.contains("postgres://(password hidden)@db.example/name"),
        "{shown}"
    );
    assert!(!shown.contains("hunter2") && !format!("{config:?}").contains("hunter2"));
}

#[test]
fn er_4_the_limits_of_a_turn_reach_the_brain() {
    let brain = plain("", &[]).limits.brain();
    let usual = manyhands_brain::Config::default();
    assert_eq!(brain.tool_rounds, usual.tool_rounds);
    assert_eq!(brain.retries, usual.retries);
    assert_eq!(brain.wakes, usual.wakes);

    let toml = "
        [limits]
        concurrent_sessions = 3
        tool_rounds = 7
        calls_per_answer = 5
        parallel_calls = 2
        retries = 0
        retry_seconds = 60
        compact_at = 0.5
        compactions_in_a_row = 2
    ";
    let config = plain(toml, &[]);
    let brain = config.limits.brain();
    assert_eq!((brain.wakes, brain.tool_rounds), (3, 7));
    assert_eq!((brain.calls_per_response, brain.parallel_calls), (5, 2));
    assert_eq!(brain.retries.attempts, 0);
    assert_eq!(brain.retries.total, Duration::from_secs(60));
    assert_eq!((brain.compact_at, brain.compactions_in_a_row), (0.5, 2));
    let shown = show(&config);
    let again: toml::Table = toml::from_str(&shown).expect("it prints TOML");
    let given: toml::Table = toml::from_str(toml).expect("TOML");
    assert_eq!(again["limits"], given["limits"], "{shown}");
}

/// Every file that the documentation shows is one that is understood.
#[test]
fn the_documented_files_are_of_the_form_that_is_read() {
    let pages = [
        include_str!("../../../../docs/src/configuration.md"),
        include_str!("../../../../docs/src/models.md"),
    ];
    let mut files = 0;
    for page in pages {
        for block in page.split("```toml\n").skip(1) {
            let (text, _) = block.split_once("```").expect("the block ends");
            let file: Result<file::File, _> = toml::from_str(text);
            let file = file.unwrap_or_else(|error| panic!("{error} in {text}"));
            assert!(!file.models.is_empty());
            files += 1;
        }
    }
    assert_eq!(files, 3);
}

/// security NET-2, NET-4: the way out is the operator's to widen, in canonical spelling only.
#[test]
fn net_2_the_way_out_is_widened_by_canonical_names_only() {
    let config = plain(
        "[egress]\nallow_addresses = ['10.1.0.0/16']\nports = [8443, 80]\ntunnel_hosts = ['*.bank.example']\n\
         package_hosts = ['mirror.example']\nca_file = '/etc/own.pem'",
        &[],
    );
    assert_eq!(config.egress.ports, [80, 443, 8443]);
    let shown = show(&config);
    for part in [
        "10.1.0.0/16",
        "8443",
        "*.bank.example",
        "mirror.example",
        "/etc/own.pem",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert_eq!(plain("", &[]).egress, Egress::default());
    refused(
        "[egress]\nallow_addresses = ['10.1.0.1/16']",
        &[],
        "egress.allow_addresses",
    );
    refused("[egress]\nports = [0]", &[], "egress.ports");
    for host in [
        "Bank.example",
        "bank.example.",
        "10.0.0.1",
        "https://bank.example",
        "*",
    ] {
        let listed = format!("[egress]\ntunnel_hosts = ['{host}']");
        refused(&listed, &[], "egress.tunnel_hosts");
    }
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

/// The configuration that has the limits that are shown of this one.
fn shown_again(config: &Config) -> Config {
    let mut shown: toml::Table = toml::from_str(&show(config)).expect("it prints TOML");
    shown.retain(|section, _| section == "limits");
    plain(&shown.to_string(), &[])
}

/// runtime RL-1, RL-2
#[test]
fn rl_2_rate_limits_are_off_until_they_are_switched_on() {
    #[track_caller]
    fn check(toml: &str, expected: Option<(u32, u32)>) {
        let config = plain(&format!("[limits]\n{toml}"), &[]);
        let rates = config.limits.rates;
        let rates = rates.map(|rates| (rates.creates.get(), rates.reads.get()));
        assert_eq!(rates, expected, "{toml}");
        assert_eq!(shown_again(&config).limits, config.limits, "{toml}");
    }
    check("", None);
    check("rates = true", Some((300, 1200)));
    check("creates_per_minute = 5", Some((5, 1200)));
    check("rates = true\nreads_per_minute = 7", Some((300, 7)));
    check("rates = false\nreads_per_minute = 7", None);
    refused(
        "[limits]\ncreates_per_minute = 0",
        &[],
        "limits.creates_per_minute: must be at least 1",
    );
}

/// security STORE-4
#[test]
fn store_4_quotas_are_off_until_they_are_set() {
    let config = plain("", &[]);
    assert_eq!(config.limits.quotas, Default::default());
    let config = plain("[limits.quotas]\nbytes = 5\nsessions = 0", &[]);
    let quotas = config.limits.quotas;
    assert_eq!(
        (quotas.bytes, quotas.sessions, quotas.agents),
        (Some(5), Some(0), None)
    );
    assert_eq!(shown_again(&config).limits, config.limits);
    refused("[limits.quotas]\nmodels = 1", &[], "unknown field `models`");
}
