//! The small text files of the image.

use rescue_schema::manifest::ImageInfo;

/// `/etc/profile`, read by ash and bash. No process is started, for it runs at every login; but for
/// bash, which alone completes, by what the very binary that is there says of itself. `LOGNAME`
/// names the login, because `\u` names the first account of uid 0. The functions are there because
/// busybox's shell prefers applets of its own to what stands in /sbin, and those know less: no
/// `halt -p`, no word of what they are about to do, no module that is packed.
const PROFILE: &str = r#"export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PAGER=less LESS=-R
umask 022
reboot() { /sbin/reboot "$@"; }
poweroff() { /sbin/poweroff "$@"; }
halt() { /sbin/halt "$@"; }
modprobe() { /sbin/modprobe "$@"; }
case $- in *i*)
    PS1='(rescue) ${LOGNAME:-root}@\h:\w\$ '
    if [ -t 1 ]; then
        case ${TERM:-dumb} in
            dumb|unknown) ;;
            *) PS1='\[\033[1;31m\](rescue)\[\033[0m\] \[\033[1m\]${LOGNAME:-root}@\h\[\033[0m\]:\w\$ ' ;;
        esac
    fi
    alias ll='ls -l'
    # Where tmux is, a shell outlives its connection; RESCUE_NO_TMUX (ssh -o SetEnv) goes without.
    if [ -n "${SSH_TTY:-}" ] && [ -z "${TMUX:-}${RESCUE_NO_TMUX:-}" ] && [ "${TERM:-dumb}" != dumb ] &&
        command -v tmux >/dev/null; then
        for left in $(tmux -L "$LOGNAME" list-sessions -F '#{session_attached}:#{session_name}' 2>/dev/null); do
            case $left in
                0:*) printf 'Your session %s is still here. Take it up again? [Y/n] ' "${left#*:}"
                    read -r answer || answer=n
                    case $answer in [Nn]*) continue ;; esac ;;
                *) printf 'Your session %s is shown on another connection, perhaps a dead one. Take it over? [y/N] ' "${left#*:}"
                    read -r answer || answer=n
                    case $answer in [Yy]*) ;; *) continue ;; esac ;;
            esac
            tmux -u -L "$LOGNAME" attach-session -d -t "=${left#*:}" && exit
        done
        unset left answer
        tmux -u -L "$LOGNAME" new-session 'rescue status; exec "$SHELL" -l' && exit
    fi
    if [ -n "${BASH_VERSION:-}" ]; then eval "$(rescue completions bash 2>/dev/null)"; fi
esac
"#;

/// Path (without leading slash) and content of each.
pub(crate) fn files(info: &ImageInfo) -> Vec<(&'static str, String)> {
    let os_release = format!(
        "NAME=\"Rescue Kernel\"\nPRETTY_NAME=\"Rescue Kernel {v} ({f}, {p})\"\nID=rescue-kernel\nVERSION_ID=\"{v}\"\nVARIANT_ID={f}-{p}\n",
        v = info.version,
        f = info.family,
        p = info.profile
    );
    vec![
        ("etc/profile", PROFILE.into()),
        ("etc/shells", "/bin/sh\n/bin/ash\n/bin/bash\n/bin/dash\n".into()),
        ("etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".into()),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n".into()),
        ("etc/os-release", os_release),
    ]
}
