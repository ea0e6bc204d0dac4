//! CronJobs: schedules as the standard cron parser reads them, and time zones.

use kubewright_machinery::field::Path;
use kubewright_machinery::names;
use serde_json::Value;

use super::errors::Errors;
use super::read::Fields;
use super::{checks, job, metadata};

const SPEC: Path<'static> = Path::new("spec");

/// The range of a field of a schedule, and the names that its values have.
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
    Bounds { min: 0, max: 59, names: &[] },
    Bounds { min: 0, max: 23, names: &[] },
    Bounds { min: 1, max: 31, names: &[] },
    Bounds {
        min: 1,
        max: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// What is wrong with a schedule, in the parser's words.
fn schedule_error(schedule: &str) -> Option<String> {
    let mut spec = schedule;
    if spec.starts_with("TZ=") || spec.starts_with("CRON_TZ=") {
        let Some(blank) = spec.find(' ') else {
            let zone = spec.split_once('=').map_or(spec, |(_, zone)| zone);
            return zone_error(zone).map(|e| format!("provided bad location {zone}: {e}"));
        };
        let zone = spec[..blank].split_once('=').map_or("", |(_, zone)| zone);
        if let Some(error) = zone_error(zone) {
            return Some(format!("provided bad location {zone}: {error}"));
        }
        spec = spec[blank..].trim();
    }
    if spec.starts_with('@') {
        return descriptor_error(spec);
    }
    let fields: Vec<&str> = spec.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(&FIELDS).find_map(|(field, bounds)| {
        field.split(',').filter(|part| !part.is_empty()).find_map(|part| range_error(part, bounds).err())
    })
}

fn descriptor_error(descriptor: &str) -> Option<String> {
    match descriptor {
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" => None,
        _ => match descriptor.strip_prefix("@every ") {
            Some(duration) => {
                let error = duration_error(duration)?;
                Some(format!("failed to parse duration {descriptor}: {error}"))
            }
            None => Some(format!("unrecognized descriptor: {descriptor}")),
        },
    }
}

/// What Go says about a text that is no duration such as `1h30m`.
fn duration_error(text: &str) -> Option<String> {
    let invalid = Some(format!("time: invalid duration \"{text}\""));
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return None;
    }
    if rest.is_empty() {
        return invalid;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number = &rest[..digits];
        if number.is_empty() || number == "." || number.matches('.').count() > 1 {
            return invalid;
        }
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        match &rest[..unit] {
            "" => return Some(format!("time: missing unit in duration \"{text}\"")),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = &rest[unit..],
            other => return Some(format!("time: unknown unit \"{other}\" in duration \"{text}\"")),
        }
    }
    None
}

fn range_error(part: &str, bounds: &Bounds) -> Result<(), String> {
    let steps: Vec<&str> = part.split('/').collect();
    let ends: Vec<&str> = steps[0].split('-').collect();
    let single = ends.len() == 1;
    let (start, mut end) = if matches!(ends[0], "*" | "?") {
        (bounds.min, bounds.max)
    } else {
        let start = value(ends[0], bounds)?;
        match ends.as_slice() {
            [_] => (start, start),
            [_, end] => (start, value(end, bounds)?),
            _ => return Err(format!("too many hyphens: {part}")),
        }
    };
    let step = match steps.as_slice() {
        [_] => 1,
        [_, step] => {
            if single {
                end = bounds.max;
            }
            number(step)?
        }
        _ => return Err(format!("too many slashes: {part}")),
    };
    if start < bounds.min {
        return Err(format!("beginning of range ({start}) below minimum ({}): {part}", bounds.min));
    }
    if end > bounds.max {
        return Err(format!("end of range ({end}) above maximum ({}): {part}", bounds.max));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    Ok(())
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(bounds.min + u32::try_from(at).unwrap_or_default()),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let parsed: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing \"{text}\": invalid syntax")
    })?;
    if parsed < 0 {
        return Err(format!("negative number ({parsed}) not allowed: {text}"));
    }
    u32::try_from(parsed).map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing \"{text}\": value out of range")
    })
}

/// What is wrong with the name of a time zone.
fn zone_error(zone: &str) -> Option<String> {
    match zone {
        "" | "UTC" | "Local" => None,
        _ if super::time_zones::is_known(zone) => None,
        _ => Some(format!("unknown time zone {zone}")),
    }
}

fn time_zone(zone: &str, path: &Path<'_>, e: &mut Errors) {
    if zone.is_empty() {
        return e.invalid(path, zone, "timeZone must be nil or non-empty string");
    }
    let plain = |part: &str| {
        (1..=14).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+'))
            && !matches!(part, "." | "..")
            && !part.starts_with('-')
    };
    if !zone.split('/').all(plain) {
        return e.invalid(path, zone, format!("unknown time zone {zone}"));
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        e.invalid(path, zone, detail);
    }
    if let Some(error) = zone_error(zone) {
        e.invalid(path, zone, error);
    }
}

fn spec(spec: &Value, old: Option<&Value>, e: &mut Errors) {
    let (schedule, path) = (spec.text("schedule"), SPEC.child("schedule"));
    if schedule.is_empty() {
        e.required(&path, "");
    } else {
        if let Some(error) = schedule_error(schedule) {
            e.invalid(&path, schedule, error);
        }
        let zoned = schedule.contains("TZ");
        let was_zoned = old.is_some_and(|old| old.text("schedule").contains("TZ"));
        if was_zoned && zoned && spec.has("timeZone") {
            e.invalid(&path, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
        } else if !was_zoned && zoned {
            e.invalid(&path, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        }
    }
    checks::opt_non_negative(spec, "startingDeadlineSeconds", &SPEC, e);
    if let Some(zone) =
        spec.opt_text("timeZone").filter(|z| old.is_none_or(|o| o.opt_text("timeZone") != Some(z)))
    {
        time_zone(zone, &SPEC.child("timeZone"), e);
    }
    let policy = spec.text("concurrencyPolicy");
    match policy {
        "" => e.required(&SPEC.child("concurrencyPolicy"), ""),
        "Allow" | "Forbid" | "Replace" => {}
        _ => e.not_supported(&SPEC.child("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"]),
    }
    let template_path = SPEC.child("jobTemplate");
    let job_path = template_path.child("spec");
    let job_spec = spec.sub("jobTemplate").sub("spec");
    job::template_spec(job_spec, &job_path, e);
    if let Some(selector) = job_spec.some("selector") {
        e.invalid(&job_path.child("selector"), selector.clone(), "`selector` will be auto-generated");
    }
    if job_spec.flag("manualSelector") {
        e.not_supported(&job_path.child("manualSelector"), true, &["nil", "false"]);
    }
    checks::opt_non_negative(spec, "successfulJobsHistoryLimit", &SPEC, e);
    checks::opt_non_negative(spec, "failedJobsHistoryLimit", &SPEC, e);
}

pub(super) fn create(object: &Value, e: &mut Errors) {
    metadata::create(object, true, names::name_is_subdomain, e);
    spec(object.sub("spec"), None, e);
    let name = metadata::name(object);
    if name.len() > 52 {
        e.invalid(&Path::new("metadata").child("name"), name, "must be no more than 52 characters");
    }
}

pub(super) fn update(object: &Value, old: &Value, e: &mut Errors) {
    metadata::update(object, old, e);
    spec(object.sub("spec"), Some(old.sub("spec")), e);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validation::errors;

    #[test]
    fn schedules_have_five_fields_within_their_ranges() {
        for good in ["* * * * *", "*/5 0-6,12 1 jan-mar MON", "@hourly", "@every 1h30m", "0 0 ? * 0"] {
            assert_eq!(schedule_error(good), None, "{good}");
        }
        for (bad, error) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("61 * * * *", "end of range (61) above maximum (59): 61"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(schedule_error(bad).as_deref(), Some(error));
        }
    }

    #[test]
    fn zones_are_those_of_iana() {
        let texts = |zone: &str| -> Vec<String> { errors::texts(|e| time_zone(zone, &Path::new("z"), e)) };
        assert!(texts("Europe/Berlin").is_empty());
        assert_eq!(texts("Mars/Base"), [r#"z: Invalid value: "Mars/Base": unknown time zone Mars/Base"#]);
        assert_eq!(
            texts("Local"),
            [
                r#"z: Invalid value: "Local": timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"#
            ]
        );
    }
}
