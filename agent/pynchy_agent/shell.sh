# Before each command of the agent's shell, and before the script of a task: where its programs are, and where what it
# installs is kept. Nothing of ours runs in such a shell, and no program of ours has any of this in its environment.
pynchy_group=${PYNCHY_WORKSPACE:-/workspace}/group
pynchy_kept=$pynchy_group
if [ ! -w "$pynchy_group" ] && [ -w "${PYNCHY_WORKSPACE:-/workspace}/scratch" ]; then
    # A helper: what the group has installed can be used, and its own is gone with it.
    pynchy_kept=${PYNCHY_WORKSPACE:-/workspace}/scratch
    for pynchy_python in /opt/toolbox/lib/python3*; do
        PYTHONPATH=$pynchy_group/.python/lib/${pynchy_python##*/}/site-packages
    done
    NODE_PATH=$pynchy_group/.npm/lib/node_modules:$pynchy_kept/.npm/lib/node_modules
    export PYTHONPATH
fi
case ":$PATH:" in
*:/opt/toolbox/bin:*) ;;    # a shell in a shell: the agent may have put something of its own before it
*)
    # What was installed comes last: it adds programs, and stands for none of the system's.
    PATH=/opt/toolbox/bin:$PATH:$pynchy_group/.python/bin:$pynchy_group/.npm/bin
    [ "$pynchy_kept" = "$pynchy_group" ] || PATH=$PATH:$pynchy_kept/.python/bin:$pynchy_kept/.npm/bin
    ;;
esac
export PATH
export PYTHONUSERBASE="$pynchy_kept/.python" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_WARN_SCRIPT_LOCATION=1
export NPM_CONFIG_PREFIX="$pynchy_kept/.npm" NPM_CONFIG_UPDATE_NOTIFIER=false NPM_CONFIG_FUND=false
export NODE_PATH="${NODE_PATH:-$pynchy_kept/.npm/lib/node_modules}"
export MPLCONFIGDIR="$pynchy_kept/.cache/matplotlib"    # its list of fonts takes seconds to make
export GIT_CONFIG_SYSTEM="${CLAUDE_ENV_FILE%/*}/gitconfig"
unset pynchy_group pynchy_kept pynchy_python
