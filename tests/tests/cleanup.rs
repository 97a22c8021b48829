//! What a test leaves behind: nothing, whether it passes or fails. A target of its own with a single
//! test, because it looks at all that this process and this machine hold.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail them")]

use std::{fs, path::PathBuf, process};

use lab::{Behaviour, nat_site, require_ipvs};

/// What would keep a network namespace alive: descriptors of ours that are one or belong to one,
/// mounts, and processes elsewhere than we are.
fn traces() -> Vec<String> {
    let descriptors = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .filter(|target| target.starts_with("net:") || target.starts_with("socket:"));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains("net:[")).map(str::to_owned);
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    let strangers = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        // Fails for what is no process, and for the dead.
        let namespace = fs::read_link(path.join("ns/net")).ok()?;
        (namespace != ours).then(|| path.display().to_string())
    });
    descriptors.chain(mounts).chain(strangers).collect()
}

fn directories() -> Vec<PathBuf> {
    let mark = format!("lab-{}", process::id());
    fs::read_dir(std::env::temp_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&mark))
        })
        .collect()
}

/// Uses all that could stay behind, and fails if asked to.
fn a_test(fails: bool) {
    let site = nat_site(1);
    let server = &site.servers[0];
    // A daemon: a session of its own, its parent gone.
    server.shell("setsid sleep 1000 >/dev/null 2>&1 &");
    let _running = server.spawn("sleep 1000");
    let _web = site.web(80);
    let _dns = server.udp_server("10.0.0.21:53", lab::UdpBehaviour::Echo);
    let _deaf = server.tcp_server("10.0.0.21:81", Behaviour::Deaf);
    let _capture = server.capture("eth0");
    assert_eq!(server.processes().len(), 2);
    assert!(traces().len() > 10, "{:?}", traces());
    assert_eq!(directories(), [site.lab.dir()]);
    assert!(!fails, "as it was told");
}

#[test]
fn nothing_is_left_behind() {
    require_ipvs();
    let before = traces();
    assert_eq!(before, [""; 0], "something is there already");
    a_test(false);
    assert_eq!(traces(), before);
    assert_eq!(directories(), [""; 0].map(PathBuf::from));

    let panic = std::panic::catch_unwind(|| a_test(true)).unwrap_err();
    assert!(panic.downcast_ref::<&str>().is_some_and(|text| text.contains("as it was told")));
    assert_eq!(traces(), before);
    assert_eq!(directories(), [""; 0].map(PathBuf::from));
}
