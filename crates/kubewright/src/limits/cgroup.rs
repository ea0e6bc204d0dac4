//! What a control group allows and uses, read from the texts of the kernel's files: versions 1 and 2, with quotas of CPU
//! time and limits of memory. Pure: files are read by a function that the caller gives.

/// Reads a file of the kernel, if it is there.
pub(super) type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The control groups of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Groups {
    cpu: Option<Group>,
    memory: Option<Group>,
}

/// A group in the hierarchy of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    v2: bool,
    /// Folders from the group's own up to the root of the hierarchy.
    folders: Vec<String>,
}

impl Groups {
    /// Finds the groups of this process.
    pub(super) fn find(read: Read) -> Groups {
        let text = read("/proc/self/cgroup").unwrap_or_default();
        let v1 = |controller: &str| {
            let path = text.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':');
                let controllers = fields.nth(1)?;
                controllers.split(',').any(|one| one == controller).then(|| fields.next().unwrap_or("/"))
            })?;
            Some(Group { v2: false, folders: folders(&format!("/sys/fs/cgroup/{controller}"), path) })
        };
        let v2 = || {
            let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
            Some(Group { v2: true, folders: folders("/sys/fs/cgroup", path) })
        };
        Groups { cpu: v1("cpu").or_else(v2), memory: v1("memory").or_else(v2) }
    }

    /// CPUs' worth of time that may be used, if that is limited: the least on the way up.
    pub(super) fn cpus(&self, read: Read) -> Option<f64> {
        let group = self.cpu.as_ref()?;
        let quotas = group.folders.iter().filter_map(|folder| match group.v2 {
            true => quota_v2(&read(&format!("{folder}/cpu.max"))?),
            false => quota_v1(
                &read(&format!("{folder}/cpu.cfs_quota_us"))?,
                &read(&format!("{folder}/cpu.cfs_period_us"))?,
            ),
        });
        quotas.reduce(f64::min)
    }

    /// Bytes of memory that may be used, if that is limited: the least on the way up.
    pub(super) fn memory(&self, read: Read) -> Option<u64> {
        let group = self.memory.as_ref()?;
        let name = if group.v2 { "memory.max" } else { "memory.limit_in_bytes" };
        group.folders.iter().filter_map(|folder| limit(&read(&format!("{folder}/{name}"))?)).min()
    }

    /// Bytes of memory in use that the kernel can't take back at once: what it kills for.
    pub(super) fn working_set(&self, read: Read) -> Option<u64> {
        let group = self.memory.as_ref()?;
        let (name, idle) = match group.v2 {
            true => ("memory.current", "inactive_file"),
            false => ("memory.usage_in_bytes", "total_inactive_file"),
        };
        group.folders.iter().find_map(|folder| {
            let used: u64 = read(&format!("{folder}/{name}"))?.trim().parse().ok()?;
            let stat = read(&format!("{folder}/memory.stat")).unwrap_or_default();
            let idle = stat.lines().find_map(|line| line.strip_prefix(idle)?.trim().parse().ok());
            Some(used.saturating_sub(idle.unwrap_or(0)))
        })
    }
}

/// The folders of a group and of those around it. Inside of a container, the way up ends at the container's own group,
/// which is mounted as the root, whatever path the process is told.
fn folders(root: &str, path: &str) -> Vec<String> {
    let mut folders = Vec::new();
    let mut path = path.trim().trim_end_matches('/');
    while !path.is_empty() && !path.contains("/..") {
        folders.push(format!("{root}{path}"));
        path = path.rfind('/').map_or("", |end| &path[..end]);
    }
    folders.push(root.to_owned());
    folders
}

/// `cpu.max`: a quota and a period in microseconds; `max` is none.
fn quota_v2(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let quota: f64 = words.next()?.parse().ok()?;
    ratio(quota, words.next().and_then(|period| period.parse().ok()).unwrap_or(100_000.0))
}

/// `cpu.cfs_quota_us`, where -1 is none, and `cpu.cfs_period_us`.
fn quota_v1(quota: &str, period: &str) -> Option<f64> {
    ratio(quota.trim().parse().ok()?, period.trim().parse().ok()?)
}

fn ratio(quota: f64, period: f64) -> Option<f64> {
    let cpus = quota / period;
    (cpus.is_finite() && cpus > 0.0).then_some(cpus)
}

/// A limit in bytes; `max`, and the huge numbers that version 1 has for it, are none.
fn limit(text: &str) -> Option<u64> {
    let bytes: u64 = text.trim().parse().ok()?;
    (bytes < 1 << 60).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Quota of CPUs, limit of memory and working set that these files tell.
    fn told(files: &[(&str, &str)]) -> (Option<f64>, Option<u64>, Option<u64>) {
        let files: BTreeMap<&str, &str> = files.iter().copied().collect();
        let read = |path: &str| files.get(path).map(|text| (*text).to_owned());
        let groups = Groups::find(&read);
        (groups.cpus(&read), groups.memory(&read), groups.working_set(&read))
    }

    #[test]
    fn a_container_of_version_2_sees_its_group_as_the_root() {
        let files = [
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/cpu.max", "50000 100000\n"),
            ("/sys/fs/cgroup/memory.max", "134217728\n"),
            ("/sys/fs/cgroup/memory.current", "100000000\n"),
            (
                "/sys/fs/cgroup/memory.stat",
                "anon 60000000\nfile 40000000\ninactive_file 30000000\nactive_file 1\n",
            ),
        ];
        assert_eq!(told(&files), (Some(0.5), Some(134_217_728), Some(70_000_000)));
    }

    #[test]
    fn of_groups_within_groups_the_least_counts() {
        let files = [
            ("/proc/self/cgroup", "0::/kubepods.slice/pod1/c1\n"),
            ("/sys/fs/cgroup/kubepods.slice/pod1/c1/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/kubepods.slice/pod1/cpu.max", "200000 100000\n"),
            ("/sys/fs/cgroup/kubepods.slice/cpu.max", "800000 100000\n"),
            ("/sys/fs/cgroup/kubepods.slice/pod1/c1/memory.max", "max\n"),
            ("/sys/fs/cgroup/kubepods.slice/pod1/memory.max", "1000\n"),
            ("/sys/fs/cgroup/kubepods.slice/pod1/c1/memory.current", "900\n"),
        ];
        assert_eq!(told(&files), (Some(2.0), Some(1000), Some(900)));
    }

    #[test]
    fn a_path_of_the_host_that_a_container_cannot_see_leads_to_its_root() {
        let files = [
            (
                "/proc/self/cgroup",
                "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n",
            ),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "150000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "200000000\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 50000000\n"),
        ];
        assert_eq!(told(&files), (Some(1.5), Some(268_435_456), Some(150_000_000)));
    }

    #[test]
    fn no_limit_and_nonsense_are_no_limit() {
        assert_eq!(told(&[]), (None, None, None));
        let v1 = [
            ("/proc/self/cgroup", "2:cpu:/\n3:memory:/\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(told(&v1), (None, None, None));
        for text in ["", "max", "0 0", "x y", "-5 100000", "100000 0"] {
            assert_eq!(quota_v2(text), None, "{text}");
        }
        assert_eq!(folders("/r", "/../../x"), ["/r"]);
    }
}
