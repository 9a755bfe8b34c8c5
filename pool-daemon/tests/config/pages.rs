//! What the pages for operators show is configuration.

use pool_daemon::config::Config;

use super::{Machine, reads_as_printed};

/// The blocks of a page that are TOML.
fn shown(page: &str) -> Vec<&str> {
    let blocks = page.split("```toml\n").skip(1);
    blocks
        .filter_map(|it| Some(it.split_once("```")?.0))
        .collect()
}

#[test]
fn each_configuration_that_a_page_shows_is_one_as_it_stands() {
    let machine = Machine::probe().unwrap();
    let cxl = include_str!("../../../docs/cxl.md");
    let operating = include_str!("../../../docs/operating.md");
    let (cxl, operating) = (shown(cxl), shown(operating));
    assert_eq!((cxl.len(), operating.is_empty()), (2, false));
    for text in cxl {
        let config = Config::parse("page.toml", text).unwrap();
        config.plan(&machine).unwrap();
        reads_as_printed(&config);
    }
    for text in operating {
        // How large a machine it is for, that one knows.
        Config::parse("page.toml", text).unwrap();
    }
}
