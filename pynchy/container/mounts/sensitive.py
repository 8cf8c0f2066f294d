"""Names of files that hold secrets, and of files that programs run by themselves.

Files of the first kind are never mounted, and covered inside a folder that is; those of the second are never writable.
Two tables, and how a path is matched against them. Names alone decide: nothing here opens a file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Final

import attrs

# A pattern is matched against each component of a path; one with a slash against neighbours.
SECRETS: Final = (
    # keys and credentials of the system and its clients
    ".ssh", ".gnupg", ".gpg", ".age", ".password-store", "keychains", "*.keychain", "*.keychain-db",
    ".local/share/keyrings", "gnome-keyring", "kwalletd", ".netrc", "_netrc", ".rhosts", ".pgpass", ".my.cnf",
    ".mylogin.cnf", ".smbcredentials", ".htpasswd", ".htdigest", "*.keytab", "krb5cc*", "crontabs", "id_rsa*",
    "id_dsa*", "id_ecdsa*", "id_ed25519*", "ssh_host_*_key", "private_key", "private_key.*", "*.pem", "*.key",
    "*.p8", "*.p12", "*.pfx", "*.pkcs12", "*.ppk", "*.pvk", "*.kdb", "*.kdbx", "*.keystore", "*.jks", "*.agekey",
    "secring.*", "wg[0-9]*.conf", "*.ovpn",
    # clouds, clusters, infrastructure
    ".aws", ".azure", ".gcloud", ".config/gcloud", "application_default_credentials.json", ".oci", ".bluemix",
    ".s3cfg", ".boto", ".passwd-s3fs", ".config/rclone", ".config/doctl", ".fly", ".kube", "kubeconfig",
    "kubeconfig.*", "*.kubeconfig", ".docker", ".dockercfg", ".config/containers", ".local/share/containers",
    ".terraform.d", ".terraformrc", "*.tfstate", "*.tfstate.*", "*.tfvars", "*.tfvars.*", ".pulumi", ".vault-token",
    ".vault_pass*", "vault-password*", ".config/sops", "service-account*.json", "service_account*.json",
    "serviceaccount*.json", "*firebase-adminsdk*.json", "client_secret*.json",
    # package registries and developers' tools
    ".npmrc", ".pypirc", ".git-credentials", ".config/gh", ".config/hub", ".config/glab-cli", ".config/op",
    ".config/git/credentials", ".cargo/credentials*", ".gem/credentials", ".bundle/config", ".m2/settings.xml",
    ".m2/settings-security.xml", ".gradle/gradle.properties", ".composer/auth.json", "auth.json",
    # assistants, this one included
    ".claude", ".claude.json", ".codex", ".gemini", ".cursor", ".continue", ".aider*", ".config/anthropic",
    ".config/claude", ".config/github-copilot", ".openai", ".pynchy", "mount-allowlist.json",
    # settings that hold secrets by custom
    ".env", ".env.*", "*.env", "*.env.*", ".envrc", ".envrc.*", "env.local", ".secrets", "secrets", "secrets.*",
    "secret.json", "secret.toml", "secret.y*ml", "*.secret", "*.secrets", "credentials", "credentials.*",
    ".credentials", ".credentials.*", "token.json", "tokens.json", ".token", ".tokens", "apikey*", "api_key*",
    "api-key*", "password.txt", "passwords.*",
    # browsers, mail, messengers
    ".mozilla", ".librewolf", ".thunderbird", "google-chrome*", "chromium", "bravesoftware", "microsoft-edge*",
    "vivaldi*", "cookies.sqlite*", "logins.json", "key4.db", "login data*", "evolution", ".purple", "signal",
    "telegramdesktop", "telegram desktop", ".config/slack", "bitwarden*", "1password*", "*.1pux", "*.agilekeychain",
    # wallets
    "wallet.dat", "wallets", "*.wallet", ".bitcoin", ".ethereum", ".electrum", ".monero", ".config/solana",
    "exodus.wallet",
    # what was typed
    ".*_history", ".lesshst", "fish_history",
    # what starts by itself, and says how
    ".config/systemd", ".config/autostart",
)  # fmt: skip

# What the owner's own shell, login, editor or git runs or reads as a program: an agent that could write it would be
# the owner the next time that he opens a terminal.
HOST_PROGRAMS: Final = (
    ".local/bin", ".local/lib", ".local/share/applications", ".local/share/systemd", "launchagents", ".cargo/bin",
    "go/bin", ".npm-global", ".pyenv", ".nvm", ".rbenv", ".asdf", ".sdkman", ".volta", ".bun", ".deno", ".oh-my-zsh",
    ".vim", ".vimrc", ".config/nvim", ".emacs", ".emacs.d", ".config/emacs", ".profile", ".login", ".logout",
    ".bashrc", ".bash_*", ".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".cshrc", ".tcshrc", ".kshrc",
    ".inputrc", ".config/fish", ".config/environment.d", ".pam_environment", ".xinitrc", ".xprofile", ".xsession",
    ".xsessionrc", ".gitconfig", ".config/git", ".git/hooks", ".git/config", ".pythonrc*", ".config/pip", ".pip",
    ".gdbinit", ".lldbinit", ".tmux.conf", ".screenrc", ".mailcap", ".forward", ".procmailrc",
)  # fmt: skip

# What editors, tools and people add to the name of a copy. A copy of a secret is one.
_COPY_SUFFIX: Final = re.compile(
    r"(?:~|[.\-_ ](?:bak|backup|bkp|old|orig|original|saved?|copy|prev|previous|tmp|new|swp|swo|rej"
    r"|[0-9]{1,14}|gz|bz2|xz|zst|zip|tar)|#| \(\w{1,10}\))$"
)
_COPY_PREFIX: Final = re.compile(r"^(?:#|\.#|copy of |backup[.\-_ ])")
_MOST_COPIES: Final = 4  # of a copy of a copy …


def fold(text: str) -> str:
    """A name as it is compared: NFKC, case folded, without trailing dots and blanks."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).rstrip(
        ". "
    )


def originals(name: str) -> tuple[str, ...]:
    """The folded name, and the names that it may be a copy of: ``server.key.bak`` is one of ``server.key``."""
    found = [fold(name)]
    for _ in range(_MOST_COPIES):
        shorter = _COPY_PREFIX.sub("", _COPY_SUFFIX.sub("", found[-1]))
        if not shorter.strip(".") or shorter == found[-1]:
            break
        found.append(shorter)
        if found[-2].endswith((".swp", ".swo")) and shorter.startswith("."):
            found.append(shorter[1:])  # vim: `.name.swp`
    return tuple(found)


def matched_by(parts: Sequence[str], patterns: Iterable[str]) -> str | None:
    """The first pattern that one component matches, or as many neighbours as it has slashes."""
    table = _compiled(tuple(patterns))
    names = [originals(part) for part in parts]
    found = [
        match for end in range(1, len(names) + 1) if (match := _last_matched(names[:end], table))
    ]
    return min(found, key=table.order.__getitem__, default=None)


def last_matched_by(parts: Sequence[str], patterns: Iterable[str]) -> str | None:
    """The first pattern that the last component matches, with those before it where the pattern has slashes.

    For a walk that has asked about each folder on the way.
    """
    table = _compiled(tuple(patterns))
    return _last_matched([originals(part) for part in parts[-table.longest :]], table)


@attrs.frozen
class _Table:
    """Compiled patterns: a walk asks about fifty thousand names."""

    order: dict[str, int]
    longest: int  # components of the longest pattern
    any_last: re.Pattern[str]  # whether a name may be the last of any of them
    each: tuple[tuple[str, tuple[re.Pattern[str], ...]], ...]


@lru_cache(maxsize=8)
def _compiled(patterns: tuple[str, ...]) -> _Table:
    parts = {
        pattern: [fold(part) for part in pattern.strip("/").split("/")] for pattern in patterns
    }
    return _Table(
        order={pattern: place for place, pattern in enumerate(patterns)},
        longest=max((len(each) for each in parts.values()), default=1),
        any_last=re.compile("|".join(translate(each[-1]) for each in parts.values()) or r"(?!)"),
        each=tuple(
            (pattern, tuple(re.compile(translate(part)) for part in each))
            for pattern, each in parts.items()
        ),
    )


def _last_matched(names: Sequence[tuple[str, ...]], table: _Table) -> str | None:
    if not any(table.any_last.match(name) for name in names[-1]):
        return None
    for pattern, wanted in table.each:
        window = names[-len(wanted) :]
        if len(window) == len(wanted) and all(
            any(want.match(name) for name in each)
            for each, want in zip(window, wanted, strict=True)
        ):
            return pattern
    return None
