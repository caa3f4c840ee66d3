use super::*;

fn load(text: &str) -> Result<Config, ConfigError> {
    Config::load(Some(ConfigFile { name: "rask.toml", text }), &[])
}

fn with_var(name: &str, text: &str) -> Result<Config, ConfigError> {
    Config::load(None, &[(name.to_owned(), text.to_owned())])
}

/// Goal: the sample is the truth about defaults, and leaves no key out.
#[test]
fn the_sample_says_exactly_the_defaults() {
    assert_eq!(load(SAMPLE).expect("the sample is valid"), Config::default());
    let sample: Table = toml::from_str(SAMPLE).expect("TOML");
    let defaults = Table::try_from(Config::default()).expect("serialises");
    let mut missing = Vec::new();
    keys_missing(&defaults, &sample, "", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
}

fn keys_missing(want: &Table, have: &Table, at: &str, missing: &mut Vec<String>) {
    for (key, value) in want {
        match (value, have.get(key)) {
            (Value::Table(want), Some(Value::Table(have))) => keys_missing(want, have, &format!("{at}{key}."), missing),
            (_, Some(_)) => {}
            (_, None) => missing.push(format!("{at}{key}")),
        }
    }
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_key() {
    let error = load("[up]\nhost = \"::1\"\nprot = 1\n").expect_err("unknown");
    let ConfigError::File { file, line, key, why } = error else { panic!("not in the file") };
    assert_eq!((file.as_str(), line, key.as_str()), ("rask.toml", 3, "up.prot"));
    assert!(why.contains("unknown field `prot`"), "{why}");
}

#[test]
fn a_wrong_type_is_refused_with_file_line_and_key() {
    let error = load("\n[up]\nport = \"high\"\n").expect_err("wrong type");
    let ConfigError::File { line, key, .. } = error else { panic!("not in the file") };
    assert_eq!((line, key.as_str()), (3, "up.port"));
}

#[test]
fn own_variables_win_over_the_file_and_take_text_that_looks_like_a_number() {
    let vars = [("RASK_UP__PORT", "9"), ("RASK_UP__PYTHON", "3"), ("RASK_WORKERS__MEMORY_LIMIT", "4 GiB")];
    let vars: Vec<_> = vars.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    let config = Config::load(Some(ConfigFile { name: "f", text: "[up]\nport = 1" }), &vars).expect("valid");
    assert_eq!((config.up.port, config.up.python.as_str()), (9, "3"));
    assert_eq!(config.workers.memory_limit, Auto::Set(ByteSize(4 << 30)));
}

#[test]
fn an_unknown_variable_of_ours_is_refused_by_name() {
    let error = with_var("RASK_UP__PROT", "1").expect_err("unknown");
    assert!(matches!(error, ConfigError::Variable { ref name, .. } if name == "RASK_UP__PROT"), "{error}");
    assert_eq!(with_var("RASK_LOG", "debug"), Ok(Config::default()));
}

#[test]
fn dasks_variables_hold_python_literals() {
    let check = |name: &str, text: &str| with_var(&format!("DASK_DISTRIBUTED__{name}"), text).expect(name);
    assert!(!check("SCHEDULER__WORK_STEALING", "False").scheduler.work_stealing);
    assert!(check("SCHEDULER__WORKER_SATURATION", "inf").scheduler.worker_saturation.is_infinite());
    assert_eq!(check("SCHEDULER__WORKER_TTL", "None").scheduler.worker_ttl, MaybeSecs(None));
    assert_eq!(check("SCHEDULER__IDLE_TIMEOUT", "5 minutes").scheduler.idle_timeout, MaybeSecs(Some(300.0)));
    assert_eq!(check("SCHEDULER__BLOCKED_HANDLERS", "['feed']").scheduler.blocked_handlers, ["feed"]);
    assert!(!check("WORKER__MEMORY__TERMINATE", "False").scheduler.worker_memory_terminate);
    assert!(!check("SCHEDULER__ACTIVE_MEMORY_MANAGER__START", "False").scheduler.active_memory_manager.start);
    assert_eq!(check("COMM__TLS__CA_FILE", "/x.pem").comm.tls.ca_file, "/x.pem");
    for (text, length) in [("None", i64::MAX as usize), ("0", 0)] {
        assert_eq!(check("ADMIN__LOG_LENGTH", text).scheduler.log_length, length);
        assert_eq!(check("ADMIN__LOW_LEVEL_LOG_LENGTH", text).scheduler.low_level_log_length, length);
    }
    assert_eq!(check("SCHEDULER__PRELOAD", "my_module").scheduler.preload, ["my_module"]);
    assert_eq!(
        check("WORKER__MEMORY__REBALANCE__MEASURE", "managed_total").scheduler.rebalance.measure,
        Measure::ManagedTotal
    );
    assert_eq!(check("WORKER__MEMORY__REBALANCE__SENDER_MIN", "0").scheduler.rebalance.sender_min, 0.0);
    // Policies of a user's own are left out, and no reason not to start.
    let own =
        check("SCHEDULER__ACTIVE_MEMORY_MANAGER__POLICIES", "[{'class': 'my.Policy', 'rate': 3, 'how': {'a': [1]}}]");
    assert!(!own.scheduler.active_memory_manager.policies[0].is_known());
    // Settings of pages, clients and plugins that we do not have are not ours to refuse.
    check("SCHEDULER__DASHBOARD__STATUS__TASK_STREAM_LENGTH", "7");
    check("CLIENT__HEARTBEAT", "1s");
}

#[test]
fn values_out_of_range_stop_us() {
    for (name, text) in [
        ("DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION", "-1"),
        ("DASK_DISTRIBUTED__SCHEDULER__WORKER_SATURATION", "lots"),
        ("DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL", "soon"),
        ("DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__MEASURE", "guess"),
        ("DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__POLICIES", "[{'rate': 3}]"),
    ] {
        let error = with_var(name, text).expect_err(name);
        assert!(matches!(error, ConfigError::Variable { name: ref named, .. } if named == name));
    }
}
