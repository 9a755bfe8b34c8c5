//! The configuration file that the Debian package ships, against what the daemon makes of it.

use pool_daemon::config::Config;

const PACKAGED: &str = include_str!("../../packaging/pool.toml");

fn printed(text: &str) -> String {
    Config::parse("pool.toml", text)
        .expect("it is taken")
        .to_toml()
}

#[test]
fn the_packaged_file_changes_no_default() {
    assert_eq!(printed(PACKAGED), printed(""));
}

#[test]
fn what_the_packaged_file_comments_out_are_the_defaults_and_examples_that_read() {
    let examples_at = PACKAGED.find("# The tiers, fastest first.").unwrap();
    assert_eq!(
        printed(&PACKAGED[..examples_at].replace("\n#: ", "\n")),
        printed("")
    );
    let everything = PACKAGED.replace("\n#: ", "\n");
    let config = Config::parse("pool.toml", &everything).unwrap();
    assert_eq!(config.tiers.len(), config.devices.len());
    assert!(config.grpc.is_some() && config.metrics_listen.is_some());
    assert_eq!(config.tenants.len(), 1);
}
