use std::collections::HashMap;
use std::fs;

use super::show::show;
use super::*;

mod limits;
mod models;
mod repositories;
mod sandbox;

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
    // Of a key that nobody knows it is the key's own line, at the beginning of a line or not.
    for (text, line) in [
        ("wrong = 1\n", 1),
        ("\n[limits]\nretries = 1\nwrong = 1\n", 4),
        ("[limits]\n\n  wrong = 1", 3),
        ("[limits]\nretries = 1\n[limits.quotas]\nwrong = 1", 4),
    ] {
        let error = file::parse(Path::new("manyhands.toml"), text).expect_err(text);
        let begin = format!("manyhands.toml is wrong: line {line}: unknown field `wrong`");
        assert!(error.to_string().contains(&begin), "{text}: {error}");
    }
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

/// The configuration that has the limits that are shown of this one.
fn shown_again(config: &Config) -> Config {
    let mut shown: toml::Table = toml::from_str(&show(config)).expect("it prints TOML");
    shown.retain(|section, _| section == "limits");
    plain(&shown.to_string(), &[])
}
