//! `[[tenant]]` and `[default_tenant]`.

use std::collections::BTreeMap;

use pool_core::Bytes;

use super::super::reader::{Item, Section};
use super::super::{ConfigError, DefaultTenant};
use super::{ids, name, set};
use crate::engine::plan::{Amount, Quota, TenantPlan};

/// How the tenants of users begin whom no configured tenant lists.
const UNLISTED_PREFIX: &str = "uid-";
const AN_AMOUNT: &str =
    "a whole number of percent from \"0 %\" to \"100 %\", or an amount as \"64 MiB\"";

pub(super) fn tenants(sections: Vec<Section<'_>>) -> Result<Vec<TenantPlan>, ConfigError> {
    let mut tenants: Vec<TenantPlan> = Vec::new();
    for section in sections {
        let tenant = tenant(section, &tenants)?;
        tenants.push(tenant);
    }
    Ok(tenants)
}

fn tenant(mut section: Section<'_>, others: &[TenantPlan]) -> Result<TenantPlan, ConfigError> {
    let taken: Vec<_> = others.iter().map(|tenant| tenant.name.as_str()).collect();
    let allowed = format!("a name that does not begin with {UNLISTED_PREFIX:?}");
    let own = |name: String| (!name.starts_with(UNLISTED_PREFIX)).then_some(name);
    let name = name(&mut section, &taken)?.convert(&allowed, own)?.value;
    let uids = own_ids(&mut section, "uids", |id| {
        others.iter().any(|t| t.uids.contains(&id))
    })?;
    let gids = own_ids(&mut section, "gids", |id| {
        others.iter().any(|t| t.gids.contains(&id))
    })?;
    if uids.is_empty() && gids.is_empty() {
        return Err(section.missing("uids", "a list with a user id, where gids has no group id"));
    }
    let quotas = quotas(&mut section, quota)?;
    section.finish()?;
    Ok(TenantPlan {
        name,
        uids,
        gids,
        quotas,
    })
}

/// Ids that belong to no other tenant.
fn own_ids(
    section: &mut Section<'_>,
    key: &'static str,
    taken: impl Fn(u32) -> bool,
) -> Result<Vec<u32>, ConfigError> {
    let own = |ids: Vec<u32>| (!ids.iter().any(|&id| taken(id))).then_some(ids);
    let ids = ids(section, key)?.map(|ids| ids.convert("ids that no other tenant lists", own));
    Ok(ids.transpose()?.map(|ids| ids.value).unwrap_or_default())
}

pub(super) fn default_tenant(section: Option<Section<'_>>) -> Result<DefaultTenant, ConfigError> {
    let mut default = DefaultTenant {
        admit_unlisted: true,
        quotas: BTreeMap::new(),
    };
    let Some(mut section) = section else {
        return Ok(default);
    };
    set(
        &mut default.admit_unlisted,
        section.boolean("admit_unlisted")?,
    );
    default.quotas = quotas(&mut section, default_quota)?;
    section.finish()?;
    Ok(default)
}

fn quotas(
    section: &mut Section<'_>,
    quota: fn(Section<'_>) -> Result<Quota, ConfigError>,
) -> Result<BTreeMap<String, Quota>, ConfigError> {
    let Some(tiers) = section.section("quota")? else {
        return Ok(BTreeMap::new());
    };
    tiers
        .named_sections()?
        .into_iter()
        .map(|(tier, section)| Ok((tier, quota(section)?)))
        .collect()
}

/// What each of those has whom nobody listed: there may be any number of them, so nothing can be
/// guaranteed to each.
fn default_quota(section: Section<'_>) -> Result<Quota, ConfigError> {
    quota_with(section, |section| {
        let allowed = "\"0 %\": only a [[tenant]] can be guaranteed anything";
        let request = amount(section, "request")?;
        let nothing = |request| {
            let nothing = [Amount::Percent(0), Amount::Bytes(Bytes::ZERO)];
            nothing.contains(&request).then_some(request)
        };
        request
            .map(|request| request.convert(allowed, nothing))
            .transpose()
    })
}

fn quota(section: Section<'_>) -> Result<Quota, ConfigError> {
    quota_with(section, |section| amount(section, "request"))
}

fn quota_with(
    mut section: Section<'_>,
    request: impl FnOnce(&mut Section<'_>) -> Result<Option<Item<Amount>>, ConfigError>,
) -> Result<Quota, ConfigError> {
    let request = request(&mut section)?.map_or(Amount::Percent(0), |item| item.value);
    let limit = amount(&mut section, "limit")?;
    section.finish()?;
    let Some(limit) = limit else {
        return Ok(Quota {
            request,
            limit: Amount::Percent(100),
        });
    };
    // Where one is bytes and the other percent, it takes the tier's size to compare them.
    let is_less = match (limit.value, request) {
        (Amount::Bytes(limit), Amount::Bytes(request)) => limit < request,
        (Amount::Percent(limit), Amount::Percent(request)) => limit < request,
        _ => false,
    };
    if is_less {
        return Err(limit.written.refused("no less than the request"));
    }
    Ok(Quota {
        request,
        limit: limit.value,
    })
}

fn amount(
    section: &mut Section<'_>,
    key: &'static str,
) -> Result<Option<Item<Amount>>, ConfigError> {
    let parse = |text: String| match text.trim().strip_suffix('%') {
        Some(percent) => {
            let percent = percent
                .trim()
                .parse()
                .ok()
                .filter(|&percent: &u8| percent <= 100);
            percent.map(Amount::Percent)
        }
        None => Bytes::parse(&text).ok().map(Amount::Bytes),
    };
    section
        .text(key, AN_AMOUNT)?
        .map(|text| text.convert(AN_AMOUNT, parse))
        .transpose()
}
