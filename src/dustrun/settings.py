"""All settings with type, default and help. Flags override `DUSTRUN_*` variables, which override the TOML file."""

from __future__ import annotations

import ipaddress
import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_FILE = "dustrun.toml"


def _is_store(url: str) -> bool:
    """Whether the URL names a supported database. It may hold a password, so errors never quote it."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    if parts.scheme == "sqlite":
        return url.startswith("sqlite:///") and len(url) > len("sqlite:///")
    return parts.scheme in ("postgres", "postgresql", "postgresql+psycopg") and "://" in url and has_port


_USD = r"^[0-9]{1,9}(\.[0-9]{1,12})?$"


class Settings(BaseSettings):
    """The server's settings; docs/reference/settings.md is generated from this class."""

    model_config = SettingsConfigDict(env_prefix="DUSTRUN_", toml_file=CONFIG_FILE, extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 picks a free port and prints it.")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="Base URL at which others reach this server, used in links that resume a run; default: the address "
        "it listens on.",
    )
    data_dir: Path = Field(Path("data"), description="Folder of the SQLite file, the owner key and the process lock.")
    database_url: str | None = Field(
        None, description="SQLAlchemy URL of the store; default: a SQLite file in `data_dir`."
    )
    shared: bool = Field(
        False,
        description="Several servers share the store. All of them need this setting, the same PostgreSQL in "
        "`database_url`, and the same master key.",
    )
    temporal_address: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]+:[0-9]{1,5}$|^\[[0-9a-fA-F:]+\]:[0-9]{1,5}$",
        description="`host:port` of the Temporal that decides which of many machines advances a run; needs PostgreSQL "
        "and the extra `cluster`. Default: no Temporal.",
    )
    temporal_namespace: str = Field("default", min_length=1, description="Namespace in Temporal; it must exist.")
    temporal_queue: str = Field(
        "dustrun",
        pattern=r"^[A-Za-z0-9_.-]{1,100}$",
        description="Name of this store's task queue in Temporal; stores that share a namespace need different ones.",
    )
    max_clock_skew_ms: int = Field(
        2000,
        ge=100,
        description="Most milliseconds by which the clocks of processes that share a store may differ from the "
        "database's.",
    )
    roles: Annotated[tuple[Literal["api", "engine", "triggers"], ...], NoDecode] = Field(
        ("api", "engine", "triggers"),
        min_length=1,
        description="What this process does, comma-separated: `api` answers calls, `engine` advances runs, `triggers` "
        "stands by to watch for triggers. Fewer than all three needs a store that other processes share.",
    )
    master_key_file: Path = Field(
        Path("~/.config/dustrun/master.key"),
        description="File of the master key that encrypts stored secrets; created when first needed, and where several "
        "servers use one store, at the first start. Keep it outside `data_dir` and its backups.",
    )
    sqlite_synchronous: Literal["FULL", "NORMAL"] = Field(
        "FULL", description="`NORMAL` can lose the most recent commits on power loss, but not when the process crashes."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object per line, or readable text.")
    retention_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Days to keep ended runs and their events; 0 = forever. An organisation can override it.",
    )
    request_audit_rows: int = Field(
        100_000,
        ge=0,
        description="Number of requests kept for `/v1/api-keys/requests`; the oldest are deleted first. 0 keeps none.",
    )
    request_audit_days: int = Field(30, ge=1, description="Maximum age in days of those requests.")
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="OTLP/HTTP endpoint for traces, like `http://127.0.0.1:4318`; without it, tracing is off.",
    )
    otlp_logs: bool = Field(False, description="Whether the lines of the log go to `otlp_endpoint` too, masked.")
    otlp_propagate: bool = Field(
        False, description="Whether HTTP requests of nodes send `traceparent`, so that the receiver joins the trace."
    )
    metrics_public: bool = Field(False, description="Whether `/metrics` answers without a key.")

    rate_limit_per_second: int = Field(
        10_000,
        ge=0,
        description="Requests per second and organisation, with bursts of twice that; 0 = no limit. The default is "
        "more than one server answers on common machines.",
    )
    wrong_keys_per_second: int = Field(
        5,
        ge=0,
        description="Requests per second and address with API keys, or tokens of streams, that are not valid, with "
        "bursts of twenty times that; 0 = no limit. Keys that were valid before are never held up.",
    )
    form_requests_per_second: int = Field(
        100,
        ge=1,
        description="Requests per second to one link to a public form, or to one signed link of a run, with bursts of "
        "twice that; at most a quarter of `rate_limit_per_second`. They do not count for the organisation.",
    )
    webhook_requests_per_second: int = Field(
        1000,
        ge=1,
        description="Requests per second to one address of a webhook, with bursts of twice that; at most a quarter of "
        "`rate_limit_per_second`. They do not count for the organisation.",
    )
    form_submissions_per_second: int = Field(
        2,
        ge=0,
        description="Answers to a public form per second and address, with bursts of twenty times that; 0 = no limit.",
    )
    head_timeout_s: float = Field(30.0, gt=0, description="Seconds in which the headers of a request must be complete.")
    idle_timeout_s: float = Field(
        75.0,
        gt=0,
        description="Seconds without a request, or without a piece of its body, until a connection is closed.",
    )
    max_connections_per_address: int = Field(
        10_000,
        ge=0,
        description="Connections of one address at once; 0 = no limit. Raise it if a proxy makes all connections.",
    )
    reserved_descriptors: int = Field(
        128,
        ge=16,
        description="File descriptors that connections leave free, so that health checks are still answered.",
    )
    min_trigger_interval_ms: int = Field(
        1000,
        ge=100,
        description="Shortest time in milliseconds between two fires of a schedule or two polls of a trigger.",
    )
    trigger_stall_s: int | None = Field(
        None,
        ge=1,
        description="Seconds after which it is told that a chain trigger stands still; null: 60, or the time of 20 "
        "blocks if that is longer.",
    )
    max_catch_up_blocks: int = Field(
        50_000,
        ge=1,
        description="Missed blocks that a chain trigger scans after a downtime; what is older becomes a gap, which can "
        "be replayed.",
    )
    pause_after_failures: int = Field(
        0,
        ge=0,
        description="Failed runs in a row, started by triggers, after which a workflow is paused; 0 = never.",
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, description="Largest request body in bytes.")
    idempotency_hours: int = Field(
        24, ge=1, description="Hours for which an Idempotency-Key replays its first response."
    )
    max_waiting_streams: int = Field(
        100, ge=1, description="Streams that one key may hold open on runs that do not exist yet."
    )
    stream_wait_s: int = Field(600, ge=1, description="Seconds that a stream waits for its run to be created.")
    stream_heartbeat_s: float = Field(15.0, gt=0, description="Seconds between heartbeat comments on a stream.")
    shutdown_grace_s: float = Field(
        5.0, ge=0, description="Seconds that running nodes have to finish when the server stops."
    )

    max_running_runs: int = Field(1000, ge=1, description="Runs that one process executes at once; further runs queue.")
    max_running_runs_per_org: int = Field(500, ge=1, description="Runs of one organisation that execute at once.")
    max_accepted_runs: int = Field(
        20_000, ge=1, description="Runs that may queue before a new run is answered with 503."
    )
    max_parallel_nodes: int = Field(50, ge=1, description="Nodes of one run that execute at once.")
    max_parallel_per_host: int = Field(
        50, ge=1, description="HTTP requests that nodes may have open to one host at once."
    )
    max_executions: int = Field(10_000, ge=1, description="Maximum node executions in one run.")
    max_loop_items: int = Field(1000, ge=1, description="Maximum items in one loop.")
    max_result_bytes: int = Field(1_048_576, ge=1024, description="Largest result of one node, in bytes of JSON.")
    max_runs: int | None = Field(
        None, ge=1, description="Runs that one organisation keeps before new ones are refused; empty: any."
    )
    max_run_bytes: int | None = Field(
        None,
        ge=1,
        description="Bytes that one organisation stores in its runs before new ones are refused; empty: any.",
    )
    max_run_days: int = Field(30, ge=1, description="Maximum duration of a run, in days.")
    default_timeout_ms: int = Field(
        60_000, ge=1, description="Time limit in milliseconds for one attempt of a node without `timeoutMs`."
    )

    assistant_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Hosts that dry runs of assistants may read from, comma-separated, like `api.example.com`; those "
        "of live workflows and of connectors are allowed anyway.",
    )
    assistant_requests: int = Field(8, ge=1, description="Requests to a model in one turn of the assistant.")
    assistant_calls: int = Field(
        24, ge=1, description="Tool calls in one turn of the assistant, including failed ones."
    )
    assistant_tokens: int = Field(
        100_000, ge=1, description="Tokens after which a turn of the assistant sends its model no more requests."
    )
    assistant_turn_usd: str = Field(
        "0.50", pattern=_USD, description="Maximum cost of one turn of the assistant, in US dollars."
    )
    assistant_day_usd: str = Field(
        "5", pattern=_USD, description="Maximum cost of all turns of one key in 24 hours, in US dollars."
    )

    max_model_tokens: int | None = Field(
        None,
        ge=0,
        description="Maximum tokens of models that one organisation uses in 24 hours, by its assistant and its `llm` "
        "nodes; empty: any.",
    )

    oauth_issuer: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="Issuer of OAuth access tokens (JWT) that `/mcp` accepts besides API keys, like `https://id.example.com`.",
    )
    oauth_audience: str | None = Field(
        None, description="The audience that these tokens must name; by default the address of `/mcp`."
    )
    oauth_keys: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="API keys for the subjects of these tokens, comma-separated: `SUBJECT=key_…` for each subject.",
    )

    sign_in_client_id: str | None = Field(
        None, min_length=1, max_length=500, description="Id of the client that this server is at the provider."
    )
    sign_in_issuer: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="OpenID Connect provider that people sign in with, exactly as it names itself, like "
        "`https://id.example.com`; see the guide on signing in. Default: none.",
    )
    sign_in_name: str = Field(
        "your company account",
        min_length=1,
        max_length=60,
        description="What the sign-in page calls that provider: `Sign in with …`.",
    )
    sign_in_client_secret: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        repr=False,
        description="Secret of that client, if it has one. Never shown.",
    )
    sign_in_scopes: Annotated[tuple[str, ...], NoDecode] = Field(
        ("openid", "email", "profile", "offline_access"),
        description="Scopes that are asked for, comma-separated.",
    )
    sign_in_parameters: dict[str, str] = Field(
        {}, description='More parameters of the request to the provider: `{"prompt": "consent"}`.'
    )
    sign_in_domains: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Domains of the e-mail addresses that may sign in, comma-separated; default: all."
    )
    sign_in_trust_emails: bool = Field(
        False,
        description="Whether addresses count as verified about which the provider does not say whether they are. Only "
        "if nobody can enter an address of their own choice there.",
    )
    sign_in_groups_claim: str = Field(
        "groups",
        min_length=1,
        max_length=200,
        description="Claim with the groups of a person; `realm_access.roles` reads a claim inside of another.",
    )
    sign_in_groups: dict[str, tuple[str, ...]] = Field(
        {},
        description="Permissions, or presets of them, by group of the provider: "
        '`{"traders": ["read-write"], "*": ["read"]}`; `*` is everybody. Default: people have those they were invited '
        "with.",
    )
    sign_in_create: bool = Field(
        False,
        description="Whether people without an invitation are let in, with the permissions of their groups.",
    )
    sign_in_organization: str | None = Field(
        None,
        pattern=r"^org_[a-z0-9]{26}$",
        description="Id of the organisation whose people sign in; default: the first.",
    )
    sign_in_check_s: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="Seconds between two questions to the provider whether a person is still one of its own, and in "
        "which groups.",
    )
    sign_in_silence_s: float = Field(
        300.0,
        ge=1,
        le=86_400,
        description="Seconds without an answer from the provider after which the sessions of its people end.",
    )

    max_tables: int = Field(100, ge=0, description="Maximum managed tables of one organisation.")
    max_connectors: int = Field(1000, ge=0, description="Maximum connectors of one organisation.")
    max_table_rows: int = Field(1_000_000, ge=0, description="Maximum rows in all tables of one organisation.")
    max_table_bytes: int = Field(
        1_073_741_824, ge=0, description="Maximum size of all rows in all tables of one organisation, in bytes of JSON."
    )

    outbound_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Hosts, CIDRs or host:port in private networks that nodes may reach, comma-separated."
    )
    outbound_max_bytes: int = Field(
        5_242_880, ge=1024, description="Largest HTTP response that a node may read, in bytes."
    )
    outbound_max_body_bytes: int = Field(
        5_242_880, ge=1024, description="Largest body of an HTTP request that a node may send, in bytes."
    )
    mcp_commands: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Programs that connectors of type `mcp` may start on this machine, comma-separated: whole command "
        "lines, with ` *` at the end of one that takes further arguments, and `NAME=*` before one for each variable "
        "that a connector may set.",
    )
    hook_retry_s: Annotated[tuple[float, ...], NoDecode] = Field(
        (5, 30, 120, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 28_800),
        min_length=1,
        max_length=50,
        description="Seconds between the attempts of a hook's delivery, comma-separated; 24 hours in all.",
    )
    hook_timeout_s: float = Field(15.0, gt=0, le=120, description="Time limit for one attempt of a hook's delivery.")
    hook_disable_days: float = Field(
        5, ge=0, description="Days without a successful delivery after which a hook is disabled; 0: never."
    )
    hook_delivery_days: int = Field(7, ge=1, description="Days that the deliveries of hooks are kept.")
    max_hooks: int = Field(20, ge=1, le=1000, description="Maximum hooks of one organisation.")
    sandbox_time_ms: int = Field(1000, ge=1, description="CPU time that one script may use, in milliseconds.")
    sandbox_memory_mb: int = Field(64, ge=8, description="Memory that one script may use, in MiB.")
    sandbox_output_bytes: int = Field(
        1_048_576, ge=1024, description="Largest value that one script may return, in bytes of JSON."
    )
    sandbox_processes: int = Field(2, ge=1, description="Number of scripts that run at once, each in its own process.")
    sandbox_require_all: bool = Field(
        False,
        description="Whether the server refuses to start where a layer of the sandbox is missing; otherwise it logs "
        "which. `dustrun doctor` names them too.",
    )
    env_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names of environment variables that expressions may read as `$env.NAME`, comma-separated. Runs "
        "show their values: secrets belong in connectors.",
    )
    remote_signers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Remote signers that wallets may use (web3signer, clef), comma-separated, each as `name=URL` of "
        "its JSON-RPC endpoint; `org_…/name=URL` restricts it to one organisation.",
    )
    env_signers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="For development only: names of environment variables that hold private keys for wallets, "
        "comma-separated; `org_…/NAME` restricts it to one organisation.",
    )
    signer_timeout_s: float = Field(30.0, gt=0, description="Time limit for a remote signer, in seconds.")
    wallet_unlock_s: float = Field(
        60.0, gt=0, le=3600, description="Seconds that the decrypted key of a local wallet stays in memory."
    )
    policy_delay_s: int = Field(
        0,
        ge=0,
        le=2_592_000,
        description="Seconds before a change that loosens a wallet's policy takes effect.",
    )

    networks_dir: Path | None = Field(
        None, description="Folder of your own chain files, which add chains or override the bundled ones."
    )
    chain_endpoints: dict[int, tuple[str, ...]] = Field(
        {},
        repr=False,
        description='JSON-RPC endpoints by chain id, preferred first: `{"1": ["https://…"]}`. Never shown.',
    )
    second_endpoints: dict[int, str] = Field(
        {},
        repr=False,
        description=(
            "An independent JSON-RPC endpoint by chain id, for a second opinion on simulations, prices and receipts: "
            '`{"1": "https://…"}`. Never shown.'
        ),
    )
    second_opinion_missing: Literal["ask", "go-on"] = Field(
        "ask",
        description=(
            "If the second endpoint does not answer: `ask` a person before signing and hold receipts until it does, or "
            "`go-on` without it."
        ),
    )
    chain_requests_per_second: int = Field(
        100, ge=0, description="Requests per second to one endpoint, counting each call of a batch; 0 = no limit."
    )
    chain_timeout_ms: int = Field(
        10_000, ge=100, description="Time limit for one request to an endpoint, in milliseconds."
    )
    chain_max_bytes: int = Field(33_554_432, ge=65_536, description="Largest response read from an endpoint, in bytes.")
    simulation_strategy: Literal["simulate-v1", "trace-call", "local-fork"] | None = Field(
        None,
        description="How to simulate chains; default: the first possible of trace-call, simulate-v1, local-fork.",
    )
    fork_binary: Path | None = Field(
        None, description="Path of an anvil binary, used to simulate chains whose endpoints cannot simulate."
    )

    transaction_stuck_s: float = Field(
        60.0, gt=0, description="Seconds that a wallet's next transaction may stay pending before its fee is raised."
    )
    transaction_max_fee_rise: int = Field(
        5, ge=1, le=1000, description="Maximum fee of a transaction, as a multiple of its first fee."
    )
    static_prices: dict[str, str] = Field(
        {},
        description="Price in US dollars of one whole token, by asset; overrides every other price source: "
        '`{"eip155:1/native": "2500", "eip155:1/erc20:0x…": "1"}`.',
    )
    price_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s]+$",
        repr=False,
        description="URL of an HTTP price source; `{chainId}`, `{address}` and `{symbol}` are replaced by the asset's. "
        "Never shown.",
    )
    price_path: str = Field(
        "usd", description="Path of the price in the JSON response, like `data.{address}.usd` or `prices.0`."
    )
    price_max_leap: int = Field(
        20,
        ge=2,
        description=(
            "A price that one source alone gives is not used for dust, and asks a person where a policy depends on "
            "it, if it differs from the price before by more than this factor; see the guide on prices."
        ),
    )
    price_keep_ms: int = Field(10_000, ge=0, le=600_000, description="Milliseconds that a price is cached.")
    dex_min_liquidity_usd: str = Field(
        "10000",
        pattern=r"^\d{1,18}(\.\d{1,18})?$",
        description="Minimum liquidity in US dollars on the quote side of a DEX pool for its price to be used.",
    )
    test_coin_usd: str | None = Field(
        "2000",
        pattern=r"^\d{1,18}(\.\d{1,18})?$",
        description="Price in US dollars assumed for a testnet's native coin when no source has one.",
    )
    warn_value_usd: str = Field(
        "1000",
        pattern=r"^\d{1,18}(\.\d{1,18})?$",
        description="Value of one transaction in US dollars above which a run's effects report warns.",
    )
    warn_slippage_percent: str = Field(
        "3",
        pattern=r"^\d{1,2}(\.\d{1,6})?$",
        description="Loss of a swap in percent, by known prices, above which a run's effects report warns.",
    )
    warn_price_age_s: int = Field(
        86_400, ge=1, description="Age of a price in seconds above which a run's effects report warns."
    )
    actions_dir: Path | None = Field(None, description="Folder of your own action files, loaded at startup.")
    dust_usd: str = Field(
        "0.01", pattern=r"^\d+(\.\d+)?$", description="Value of a dust amount in US dollars; at most 1."
    )

    @field_validator(
        "outbound_allow",
        "assistant_hosts",
        "mcp_commands",
        "oauth_keys",
        "sign_in_scopes",
        "sign_in_domains",
        "env_allow",
        "remote_signers",
        "env_signers",
        "hook_retry_s",
        "roles",
        mode="before",
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("database_url")
    @classmethod
    def _check_database(cls, value: str | None) -> str | None:
        if value is not None and not _is_store(value):
            raise ValueError("must be like postgresql://user:password@host/name or sqlite:////folder/file.db")
        return value

    @field_validator("shared")
    @classmethod
    def _check_shared(cls, value: bool, found: ValidationInfo) -> bool:
        url = found.data.get("database_url")
        if value and (url is None or url.startswith("sqlite")):
            raise ValueError("needs PostgreSQL: set database_url to postgresql://…; a SQLite store has one server")
        return value

    @field_validator("temporal_address")
    @classmethod
    def _check_temporal(cls, value: str | None, found: ValidationInfo) -> str | None:
        url = found.data.get("database_url")
        if value is not None and (url is None or url.startswith("sqlite")):
            raise ValueError(
                "needs PostgreSQL: set database_url to postgresql://…; a SQLite store is for one machine and one server"
            )
        return value

    @field_validator("roles")
    @classmethod
    def _check_roles(cls, value: tuple[str, ...], found: ValidationInfo) -> tuple[str, ...]:
        is_shared = found.data.get("shared") or found.data.get("temporal_address")
        if set(value) != {"api", "engine", "triggers"} and not is_shared:
            raise ValueError(
                "a process with only some of the roles needs others that share its store: set database_url to "
                "postgresql://…, and shared (one machine) or temporal_address (many machines)"
            )
        return value

    @property
    def is_shared(self) -> bool:
        """Whether other processes use the store too."""
        return self.shared or self.temporal_address is not None

    @field_validator("otlp_logs", "otlp_propagate")
    @classmethod
    def _check_receiver(cls, value: bool, found: ValidationInfo) -> bool:
        if value and found.data.get("otlp_endpoint") is None:
            raise ValueError("needs otlp_endpoint, where the receiver is; without it nothing is sent")
        return value

    @field_validator("outbound_allow")
    @classmethod
    def _check_allow(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if "/" in entry:
                ipaddress.ip_network(entry, strict=False)
        return value

    @field_validator("oauth_keys")
    @classmethod
    def _check_subjects(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if re.fullmatch(r"[^=\s][^=]{0,254}=key_[a-z0-9]{26}", entry) is None:
                raise ValueError("each entry must be SUBJECT=key_…, with the id of an API key")
        return value

    @field_validator("sign_in_issuer")
    @classmethod
    def _check_issuer(cls, value: str | None, found: ValidationInfo) -> str | None:
        host = urlsplit(value or "").hostname
        if value is not None and found.data.get("sign_in_client_id") is None:
            raise ValueError("needs sign_in_client_id, which the provider gives when this server is entered there")
        if value is not None and not value.startswith("https://") and host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("must begin with https://, except on this machine: secrets and tokens go there")
        return value

    @field_validator("sign_in_scopes")
    @classmethod
    def _check_scopes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError('must have "openid", without which a provider gives no ID token')
        return value

    @field_validator("sign_in_create")
    @classmethod
    def _check_create(cls, value: bool, found: ValidationInfo) -> bool:
        if value and not found.data.get("sign_in_groups"):
            raise ValueError('needs sign_in_groups, which says what new people may do: {"*": ["read"]}')
        return value

    @field_validator("remote_signers")
    @classmethod
    def _check_signers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if re.fullmatch(r"(?:org_[a-z0-9]{26}/)?[a-z0-9-]{1,64}=https?://[^\s,]+", entry) is None:
                raise ValueError(
                    "each signer must be name=URL: lower-case letters, digits and -, then = and an http:// or "
                    "https:// URL"
                )
        return value

    @field_validator("env_signers")
    @classmethod
    def _check_variables(cls, value: tuple[str, ...], found: ValidationInfo) -> tuple[str, ...]:
        for entry in value:
            name = entry.rpartition("/")[2]
            if re.fullmatch(r"(?:org_[a-z0-9]{26}/)?[A-Za-z_][A-Za-z0-9_]{0,127}", entry) is None:
                raise ValueError(f'"{entry}" is not a valid environment variable name')
            if name in found.data.get("env_allow", ()):
                raise ValueError(f'"{name}" is also in env_allow, so every workflow could read the key')
        return value

    @field_validator("dust_usd")
    @classmethod
    def _check_dust(cls, value: str) -> str:
        if not 0 < Decimal(value) <= 1:
            raise ValueError("must be above 0 and at most 1 (US dollar)")
        return value

    @field_validator("static_prices")
    @classmethod
    def _check_prices(cls, value: dict[str, str]) -> dict[str, str]:
        for key, usd in value.items():
            if re.fullmatch(r"eip155:[1-9][0-9]*/(native|erc20:0x[0-9a-fA-F]{40})", key) is None:
                raise ValueError(f'"{key}" is not an asset; use the form eip155:1/native or eip155:1/erc20:0x…')
            if re.fullmatch(r"\d{1,18}(\.\d{1,36})?", usd) is None or not Decimal(usd):
                raise ValueError(f'the price of {key} must be a decimal number above 0 in quotes, like "2500.5"')
        return value

    @property
    def requests_per_link(self) -> float:
        """Requests per second that strangers with one link may make."""
        return self._below_organisation(self.form_requests_per_second)

    @property
    def requests_per_webhook(self) -> float:
        """Requests per second that strangers with one address of a webhook may make."""
        return self._below_organisation(self.webhook_requests_per_second)

    def _below_organisation(self, per_second: int) -> float:
        """A rate for strangers: always less than their organisation may."""
        return min(float(per_second), self.rate_limit_per_second / 4 or math.inf)

    @field_validator("chain_endpoints")
    @classmethod
    def _check_endpoints(cls, value: dict[int, tuple[str, ...]]) -> dict[int, tuple[str, ...]]:
        for chain_id, urls in value.items():
            if any(not re.match(r"https?://[^\s/]+", url) for url in urls):
                raise ValueError(f"the endpoints of chain {chain_id} must be http:// or https:// URLs")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order of precedence: flags, environment, TOML file, defaults."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    def base_url(self) -> str:
        """The base URL of links to this server, without a trailing slash."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def store_url(self) -> str:
        """The store's SQLAlchemy URL, with the psycopg driver for PostgreSQL."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'dustrun.db'}"
        if self.database_url.startswith(("postgres://", "postgresql://")):
            return "postgresql+psycopg://" + self.database_url.split("://", 1)[1]
        return self.database_url
