"""Every setting once: name, type, default, one line of help. Flags win over `DUSTRUN_*`, those over the TOML file."""

from __future__ import annotations

import ipaddress
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
    """Whether it is a URL of a store that there is; it may hold a password, so it is not shown."""
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        return False
    if parts.scheme == "sqlite":
        return url.startswith("sqlite:///") and len(url) > len("sqlite:///")
    return parts.scheme in ("postgres", "postgresql", "postgresql+psycopg") and "://" in url and has_port


class Settings(BaseSettings):
    """The server's settings; the reference page is generated from this class."""

    model_config = SettingsConfigDict(env_prefix="DUSTRUN_", toml_file=CONFIG_FILE, extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one and prints it.")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="Address under which others reach this server, for links that resume a run; default is the address "
        "it listens on.",
    )
    data_dir: Path = Field(Path("data"), description="Folder for the SQLite file, the owner key and the process lock.")
    database_url: str | None = Field(
        None, description="SQLAlchemy URL of the store; default is a SQLite file in `data_dir`."
    )
    master_key_file: Path = Field(
        Path("~/.config/dustrun/master.key"),
        description="File of the key that seals stored secrets; made at first need, and kept out of `data_dir` and its "
        "backups.",
    )
    sqlite_synchronous: Literal["FULL", "NORMAL"] = Field(
        "FULL", description="`NORMAL` can lose the last moment on power loss, never on a crash."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["json", "text"] = Field("json", description="One JSON object a line, or readable text.")
    retention_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Days that ended runs and their events are kept; 0 = for ever. An organisation can say otherwise.",
    )
    request_audit_rows: int = Field(
        100_000, ge=0, description="Requests kept for `/v1/api-keys/requests`, the oldest go first; 0 keeps none."
    )
    request_audit_days: int = Field(30, ge=1, description="Days that those requests are kept at most.")
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="OTLP/HTTP receiver of traces, like `http://127.0.0.1:4318`; without it there are none.",
    )
    otlp_propagate: bool = Field(
        False, description="Whether requests of nodes carry `traceparent`, so that the other side joins the trace."
    )
    metrics_public: bool = Field(False, description="Whether `/metrics` answers without a key.")

    rate_limit_per_second: int = Field(
        1000, ge=0, description="Requests a second and key, with a burst of twice that; 0 = off."
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, description="Largest request body in bytes.")
    idempotency_hours: int = Field(24, ge=1, description="How long an Idempotency-Key replays its first answer.")
    max_waiting_streams: int = Field(
        100, ge=1, description="Streams a key may hold open on runs that do not exist yet."
    )
    stream_wait_s: int = Field(600, ge=1, description="How long a stream waits for its run to appear, in seconds.")
    stream_heartbeat_s: float = Field(15.0, gt=0, description="Time between heartbeat comments on a stream.")
    shutdown_grace_s: float = Field(5.0, ge=0, description="How long running nodes may finish when the server stops.")

    max_running_runs: int = Field(1000, ge=1, description="Runs that advance at once in one process; others queue.")
    max_running_runs_per_org: int = Field(500, ge=1, description="Runs of one organisation that advance at once.")
    max_accepted_runs: int = Field(
        20_000, ge=1, description="Runs accepted and not yet advancing before a new one is answered 503."
    )
    max_parallel_nodes: int = Field(50, ge=1, description="Nodes of one run that execute at once.")
    max_parallel_per_host: int = Field(50, ge=1, description="HTTP requests of nodes to one host at once.")
    max_executions: int = Field(10_000, ge=1, description="Node executions in one run.")
    max_loop_items: int = Field(1000, ge=1, description="Items of one loop.")
    max_result_bytes: int = Field(1_048_576, ge=1024, description="Largest result of one node in bytes of JSON.")
    max_run_days: int = Field(30, ge=1, description="Longest life of a run in days.")
    default_timeout_ms: int = Field(
        60_000, ge=1, description="Time limit of one attempt of a node without `timeoutMs`."
    )

    max_tables: int = Field(100, ge=0, description="Managed tables of one organisation.")
    max_table_rows: int = Field(1_000_000, ge=0, description="Rows of all tables of one organisation.")
    max_table_bytes: int = Field(
        1_073_741_824, ge=0, description="JSON of all rows of all tables of one organisation, in bytes."
    )

    outbound_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Hosts, CIDRs or host:port of private networks that nodes may reach, comma-separated."
    )
    outbound_max_bytes: int = Field(5_242_880, ge=1024, description="Largest HTTP response a node may read, in bytes.")
    sandbox_time_ms: int = Field(1000, ge=1, description="Processor time that one script may use, in milliseconds.")
    sandbox_memory_mb: int = Field(64, ge=8, description="Memory that one script may use, in MiB.")
    sandbox_output_bytes: int = Field(
        1_048_576, ge=1024, description="Largest value that one script may return, in bytes of JSON."
    )
    sandbox_processes: int = Field(2, ge=1, description="Scripts that run at once, each in its own process.")
    env_allow: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Names of environment variables that expressions may read as `$env.NAME`, comma-separated.",
    )
    remote_signers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Signers elsewhere that wallets may use, comma-separated, each as `name=URL` of its JSON-RPC "
        "(web3signer, clef); `org_…/name=URL` for one organisation alone.",
    )
    env_signers: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="For development: names of environment variables that hold private keys for wallets, "
        "comma-separated; `org_…/NAME` for one organisation alone.",
    )
    signer_timeout_s: float = Field(30.0, gt=0, description="How long a remote signer may take, in seconds.")
    wallet_unlock_s: float = Field(
        60.0, gt=0, le=3600, description="How long the unlocked key of a local wallet stays in memory, in seconds."
    )
    policy_delay_s: int = Field(
        0,
        ge=0,
        le=2_592_000,
        description="Least time until the loosening of a wallet's policy takes effect, in seconds.",
    )

    networks_dir: Path | None = Field(
        None, description="A folder of your own chain files, which add chains or override the bundled ones."
    )
    chain_endpoints: dict[int, tuple[str, ...]] = Field(
        {},
        repr=False,
        description='JSON-RPC endpoints by chain id, best first: `{"1": ["https://…"]}`. Never shown.',
    )
    chain_requests_per_second: int = Field(
        100, ge=0, description="Requests a second to one endpoint, each of a batch counted; 0 = off."
    )
    chain_timeout_ms: int = Field(10_000, ge=100, description="Time limit of one exchange with an endpoint.")
    chain_max_bytes: int = Field(
        33_554_432, ge=65_536, description="Largest answer that is read from an endpoint, in bytes."
    )
    simulation_strategy: Literal["simulate-v1", "trace-call", "local-fork"] | None = Field(
        None, description="How chains are simulated; without it the best way that the endpoints offer."
    )
    fork_binary: Path | None = Field(
        None, description="An anvil binary, with which chains are simulated whose endpoints offer no simulation."
    )

    transaction_stuck_s: float = Field(
        60.0, gt=0, description="How long the next transaction of a wallet may wait before its bid for gas is raised."
    )
    transaction_max_fee_rise: int = Field(
        5, ge=1, le=1000, description="How many times its first bid for gas a transaction may bid at most."
    )
    static_prices: dict[str, str] = Field(
        {},
        description="US dollars of a whole token by asset, which win over every other price source: "
        '`{"eip155:1/native": "2500", "eip155:1/erc20:0x…": "1"}`.',
    )
    price_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s]+$",
        repr=False,
        description="An HTTP source of prices; `{chainId}`, `{address}` and `{symbol}` stand for the asset's. "
        "Never shown.",
    )
    price_path: str = Field(
        "usd", description="Where the price stands in its JSON answer, like `data.{address}.usd` or `prices.0`."
    )
    price_keep_ms: int = Field(10_000, ge=0, le=600_000, description="How long a price is kept, in milliseconds.")
    dex_min_liquidity_usd: str = Field(
        "10000",
        pattern=r"^\d{1,18}(\.\d{1,18})?$",
        description="US dollars that must stand on the other side of an exchange's pool before its price counts.",
    )
    test_coin_usd: str | None = Field(
        "2000",
        pattern=r"^\d{1,18}(\.\d{1,18})?$",
        description="US dollars that the coin of a test network counts as when no source prices it.",
    )
    warn_value_usd: str = Field(
        "1000",
        pattern=r"^\d{1,18}(\.\d{1,18})?$",
        description="US dollars in one transaction above which the report of a run's effects warns.",
    )
    warn_slippage_percent: str = Field(
        "3",
        pattern=r"^\d{1,2}(\.\d{1,6})?$",
        description="How much less a swap may bring than it gives, by the prices known, before the report warns.",
    )
    warn_price_age_s: int = Field(
        86_400, ge=1, description="Age of a price in seconds above which the report of a run's effects warns."
    )
    actions_dir: Path | None = Field(None, description="A folder of your own action files, loaded at start.")
    dust_usd: str = Field(
        "0.01", pattern=r"^\d+(\.\d+)?$", description="US dollars that a dust amount is worth; at most 1."
    )

    @field_validator("outbound_allow", "env_allow", "remote_signers", "env_signers", mode="before")
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

    @field_validator("outbound_allow")
    @classmethod
    def _check_allow(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if "/" in entry:
                ipaddress.ip_network(entry, strict=False)
        return value

    @field_validator("remote_signers")
    @classmethod
    def _check_signers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for entry in value:
            if re.fullmatch(r"(?:org_[a-z0-9]{26}/)?[a-z0-9-]{1,64}=https?://[^\s,]+", entry) is None:
                raise ValueError("each signer is name=URL: small letters, digits and -, then = and http:// or https://")
        return value

    @field_validator("env_signers")
    @classmethod
    def _check_variables(cls, value: tuple[str, ...], found: ValidationInfo) -> tuple[str, ...]:
        for entry in value:
            name = entry.rpartition("/")[2]
            if re.fullmatch(r"(?:org_[a-z0-9]{26}/)?[A-Za-z_][A-Za-z0-9_]{0,127}", entry) is None:
                raise ValueError(f'"{entry}" is no name of an environment variable')
            if name in found.data.get("env_allow", ()):
                raise ValueError(f'"{name}" is in env_allow too: every workflow could read the key')
        return value

    @field_validator("dust_usd")
    @classmethod
    def _check_dust(cls, value: str) -> str:
        if not 0 < Decimal(value) <= 1:
            raise ValueError("dust is worth more than 0 and at most 1 US dollar")
        return value

    @field_validator("static_prices")
    @classmethod
    def _check_prices(cls, value: dict[str, str]) -> dict[str, str]:
        for key, usd in value.items():
            if re.fullmatch(r"eip155:[1-9][0-9]*/(native|erc20:0x[0-9a-fA-F]{40})", key) is None:
                raise ValueError(f'"{key}" is no asset; it looks like eip155:1/native or eip155:1/erc20:0x…')
            if re.fullmatch(r"\d{1,18}(\.\d{1,36})?", usd) is None or not Decimal(usd):
                raise ValueError(f'the price of {key} must be a plain number above 0 as text, like "2500.5"')
        return value

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
        """Where links of this server lead, without a slash at the end."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def store_url(self) -> str:
        """The store's SQLAlchemy URL, with the driver that this product uses."""
        if self.database_url is None:
            return f"sqlite:///{self.data_dir / 'dustrun.db'}"
        if self.database_url.startswith(("postgres://", "postgresql://")):
            return "postgresql+psycopg://" + self.database_url.split("://", 1)[1]
        return self.database_url
