//! Durations for humans (apimachinery `util/duration`): two or three significant figures.

use crate::time;

/// How long `seconds` are: `5s`, `3m20s`, `4h`, `3d4h`, `2y10d`; `<invalid>` for the future beyond clock skew.
pub fn human(seconds: i64) -> String {
    match seconds {
        ..-1 => return "<invalid>".into(),
        -1 => return "0s".into(),
        0..120 => return format!("{seconds}s"),
        _ => {}
    }
    let pair = |big: i64, unit: char, small: i64, small_unit: char| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    let minutes = seconds / 60;
    let hours = minutes / 60;
    let days = hours / 24;
    match (minutes, hours) {
        (..10, _) => pair(minutes, 'm', seconds % 60, 's'),
        (..180, _) => format!("{minutes}m"),
        (_, ..8) => pair(hours, 'h', minutes % 60, 'm'),
        (_, ..48) => format!("{hours}h"),
        (_, ..192) => pair(days, 'd', hours % 24, 'h'),
        (_, ..17520) => format!("{days}d"),
        (_, ..70080) => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// How long ago the RFC 3339 time was, as a table cell says it: `<unknown>` for none, `<invalid>` for no time.
pub fn since(text: &str, now: jiff::Timestamp) -> String {
    if text.is_empty() || text == "null" {
        return "<unknown>".into();
    }
    match time::parse(text) {
        Ok(then) => human(now.as_second() - then.as_second()),
        Err(_) => "<invalid>".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_get_coarser_with_time() {
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (600, "10m"),
            (179 * 60, "179m"),
            (3 * 3600, "3h"),
            (3 * 3600 + 60, "3h1m"),
            (8 * 3600, "8h"),
            (47 * 3600, "47h"),
            (48 * 3600, "2d"),
            (76 * 3600, "3d4h"),
            (8 * 86400, "8d"),
            (729 * 86400, "729d"),
            (740 * 86400, "2y10d"),
            (3000 * 86400, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text);
        }
    }

    #[test]
    fn times_are_counted_from_now() {
        let now = "2024-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(since("2024-01-01T00:00:00Z", now), "5m");
        assert_eq!(since("not-a-date", now), "<invalid>");
        assert_eq!(since("", now), "<unknown>");
    }
}
