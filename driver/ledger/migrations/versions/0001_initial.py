"""Runs, jobs, attempts, images."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

BIG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the four tables."""
    op.create_table(
        "runs",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("created_at", sa.DateTime, server_default=sa.func.now(), nullable=False),
        sa.Column("table_path", sa.Text, nullable=False),
        sa.Column("table_sha256", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("row_id", sa.Text, nullable=False),
        sa.Column("variant", sa.Integer, nullable=False),
        sa.Column("digest", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("current", sa.Boolean, nullable=False),
        sa.Column("row_number", sa.Integer, nullable=False),
        sa.Column("line", sa.Integer, nullable=False),
        sa.Column("names", sa.Text, nullable=False),
        sa.Column("name_key", sa.Text, nullable=False),
        sa.Column("inputs", sa.Text, nullable=False),
        sa.Column("prompt", sa.Text, nullable=False),
        sa.Column("negative", sa.Text, nullable=False),
        sa.Column("seed", sa.String(20)),
        sa.Column("model_key", sa.Text, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("kills", sa.Integer, nullable=False, server_default="0"),
        sa.Column("error_code", sa.String(40), nullable=False, server_default=""),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_jobs_run_id"),
        sa.UniqueConstraint(
            "run_id", "row_id", "variant", "digest", name="uq_jobs_run_id_row_id_variant_digest"
        ),
    )
    op.create_index(
        "ix_jobs_claim",
        "jobs",
        ["run_id", "generation", "state", "model_key", "failures", "row_number", "variant"],
    )
    op.create_table(
        "attempts",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("job_id", BIG, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("server", sa.Text, nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("created_at", sa.DateTime, server_default=sa.func.now(), nullable=False),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("seconds", sa.Float),
        sa.Column("error_code", sa.String(40), nullable=False, server_default=""),
        sa.Column("error", sa.Text, nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id"),
    )
    op.create_index("ix_attempts_job_id", "attempts", ["job_id"])
    is_open = sa.text("state = 'open'")
    op.create_index("ix_attempts_open", "attempts", ["state"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_table(
        "images",
        sa.Column("id", BIG, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(36), nullable=False),
        sa.Column("job_id", BIG, nullable=False),
        sa.Column("attempt_id", sa.String(36), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("file_key", sa.Text, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("size", BIG, nullable=False),
        sa.Column("thumbnail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_images_run_id"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_images_job_id"),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name="fk_images_attempt_id"),
        sa.UniqueConstraint("run_id", "file_key", name="uq_images_run_id_file_key"),
    )
    op.create_index("ix_images_job_id", "images", ["job_id"])
