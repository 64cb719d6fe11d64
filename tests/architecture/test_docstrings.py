"""The docstrings of what users, Feast and other packages call: numpydoc sections, an example, and the page on why."""

from __future__ import annotations

import ast
import builtins
import doctest
import re

import pytest

from configs.settings import PROJECT_ROOT

PACKAGES = ("configs", "feature_repo", "training", "bentos", "flows", "monitoring")
SECTION = re.compile(r"^(Parameters|Returns|Yields|Raises)\n-+$", re.MULTILINE)
REFERENCE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([\w.]+)`")
PAGE = re.compile(r"docs/[\w./-]+\.md")

DOORS = {
    "bentos.bundle.bundle": "Bundle Explanation Bundle.load",
    "bentos.bundle.manifest": "Manifest is_digest",
    "bentos.client.async_client": "AsyncChurnClient",
    "bentos.client.client": "ChurnClient",
    "bentos.client.errors": "ChurnServiceError error_of_answer",
    "bentos.client.retries": "Patience",
    "bentos.decisions.counterfactuals": "apply_changes",
    "bentos.decisions.economics": "Economics",
    "bentos.decisions.levers": "Span load_levers",
    "bentos.decisions.reason_codes": "ReasonDictionary",
    "bentos.prediction.model": "load_model",
    "bentos.prediction.prediction": "Prediction prediction_ids",
    "bentos.prediction.predictor": "predict_rows refusal",
    "bentos.psi": "psi psi_by_chance",
    "bentos.receipts.receipt": "format_instant to_content",
    "bentos.receipts.replay": "ReplayResult",
    "bentos.receipts.signing": "sign_receipt",
    "bentos.receipts.sqlite_sink": "SqliteSink",
    "bentos.receipts.store": "find_receipt",
    "bentos.receipts.writer": "ReceiptWriter",
    "bentos.rollout.ledger": "read_ledger",
    "bentos.rollout.live_comparison": "LiveComparison",
    "bentos.rollout.paired_times": "Pairing",
    "bentos.rollout.pointer": "Rollout write_pointer",
    "bentos.rollout.rollout": "read_rollout",
    "feature_repo.contract": "View Feature features_of",
    "feature_repo.definition_hash": "contract_hash",
    "feature_repo.events": "RejectionReason parse_lines validate_events parse_value",
    "feature_repo.files.atomic_writes": "storage_errors write_file write_folder",
    "feature_repo.files.hash_chain": "append_lines iter_verified seal",
    "feature_repo.files.locks": "lease publish_lock",
    "feature_repo.instants": "instant",
    "feature_repo.raw.events.deliveries": "deliveries",
    "feature_repo.raw.events.event_files": "kind_of read_events",
    "feature_repo.raw.snapshots.changes": "snapshot_changes",
    "feature_repo.raw.snapshots.normalization": "respell id_fault",
    "feature_repo.raw.snapshots.publication": "land_raw published_snapshots",
    "feature_repo.raw.snapshots.telco_csv": "read_raw",
    "feature_repo.raw.snapshots.timing": "snapshot_observation feature_rows label_rows",
    "feature_repo.stores.casting": "to_dataframe to_python_values",
    "feature_repo.stores.customers": "active_customers",
    "feature_repo.stores.engine": "ColumnarComputeEngine ColumnarComputeEngineConfig",
    "feature_repo.stores.errors": "translate_store_errors",
    "feature_repo.stores.feature_store": "open_feature_store redis_connection repo_config sqlite_url",
    "feature_repo.stores.freshness": "Freshness load_freshness parse_freshness",
    "feature_repo.stores.historical_features": "get_historical_features",
    "feature_repo.stores.materialize": "materialize",
    "feature_repo.stores.offline": "AsofOfflineStore AsofOfflineStoreConfig",
    "feature_repo.stores.online_features": "OnlineFeatureReader",
    "feature_repo.stores.online_read.rows": "OnlineRow",
    "feature_repo.stores.online_redis": "PlannedRedisOnlineStore PlannedRedisOnlineStoreConfig",
    "feature_repo.stores.online_sqlite": "PlannedSqliteOnlineStore PlannedSqliteOnlineStoreConfig",
    "feature_repo.stores.registration": "apply",
    "feature_repo.stores.vectors": "encode_features encode_value",
    "feature_repo.transforms": "derive milestones windows tiles",
    "flows.steps.build_features": "build_features build_activity",
    "flows.steps.check_parity": "check_parity",
    "flows.steps.compare": "ComparisonResult",
    "flows.steps.data_age": "known_extracts",
    "flows.steps.inbox": "read_name waiting",
    "flows.steps.ingest_events": "ingest_events",
    "flows.steps.ingest_snapshot": "ingest_snapshot",
    "flows.steps.monitor": "run_monitor",
    "flows.steps.next_command": "next_command",
    "flows.steps.promote": "roll_back",
    "flows.steps.retraining_policy": "admit_retraining",
    "flows.steps.train": "feature_service",
    "flows.steps.trial": "TrialResult",
    "monitoring.drift": "FeatureBins BinCounts negative_log_likelihoods",
    "monitoring.parity": "ParityCounts",
    "training.data.heldout": "save_heldout",
    "training.data.labels": "load_labels",
    "training.data.split": "identical_rows moments",
    "training.data.training_set": "TrainingSet",
    "training.metrics.paired_bootstrap": "Gain losses profits bootstrap_gains",
    "training.metrics.profit": "empc best_targeting usd",
    "training.metrics.scores": "roc_auc ece lift_at measure_metrics",
    "training.metrics.slices": "tenure_band",
    "training.promotion": "Verdict decide",
}
"""Module -> its classes and functions that must show an example; tests/unit/test_docstring_examples.py runs them."""

SECTIONS = {
    "bentos.bundle.bundle": "Bundle Explanation Bundle.score Bundle.explain_vectors Bundle.save Bundle.load",
    "bentos.bundle.manifest": "Manifest",
    "bentos.client.async_client": "AsyncChurnClient",
    "bentos.client.client": "ChurnClient ChurnClient.predict ChurnClient.predict_many ChurnClient.what_if",
    "bentos.client.errors": "ChurnServiceError",
    "bentos.client.retries": "Patience",
    "bentos.decisions.counterfactuals": "ChangedValue LeverCandidates LeverCandidates.best apply_changes "
    "check_changes lever_candidates",
    "bentos.decisions.economics": "Economics load_economics expected_profit_usd",
    "bentos.decisions.levers": "Actionable parse_levers",
    "bentos.decisions.reason_codes": "Reason ReasonDictionary ReasonDictionary.reasons_of parse_reason_codes",
    "bentos.prediction.model": "ServingModel load_model warm_up",
    "bentos.prediction.prediction": "ModelInfo Prediction",
    "bentos.prediction.predictor": "predict_customers predict_rows",
    "bentos.prediction.what_if": "WhatIfPrediction predict_what_if",
    "bentos.psi": "psi psi_by_chance",
    "bentos.receipts.receipt": "Receipt format_instant from_content to_content",
    "bentos.receipts.replay": "ReplayResult Replayer.replay replay_receipt",
    "bentos.receipts.signing": "ReceiptRow sign_receipt verify_row",
    "bentos.receipts.sqlite_sink": "SqliteSink",
    "bentos.receipts.store": "find_receipt open_sink",
    "bentos.receipts.writer": "ReceiptWriter ReceiptWriter.offer",
    "bentos.rollout.ledger": "LedgerEntry append_entry read_ledger",
    "bentos.rollout.live_comparison": "LiveFigures read_live",
    "bentos.rollout.pointer": "Rollout read_pointer write_pointer",
    "bentos.rollout.rollout": "promote rollback start_trial stop_trial champion_digest served_rollout read_rollout",
    "feature_repo.contract": "View Feature features_of",
    "feature_repo.definition_hash": "contract_hash",
    "feature_repo.events": "parse_lines validate_events",
    "feature_repo.files.atomic_writes": "storage_errors write_file write_folder",
    "feature_repo.files.hash_chain": "ChainHead append_lines iter_verified read_head",
    "feature_repo.files.locks": "lease publish_lock",
    "feature_repo.instants": "instant",
    "feature_repo.raw.events.admission": "admit_events",
    "feature_repo.raw.events.deliveries": "deliveries file_of",
    "feature_repo.raw.events.event_faults": "event_fault",
    "feature_repo.raw.events.event_files": "kind_of read_events parts_of",
    "feature_repo.raw.events.publication": "land_file publish_delivery",
    "feature_repo.raw.snapshots.changes": "snapshot_changes",
    "feature_repo.raw.snapshots.normalization": "Respelling respell",
    "feature_repo.raw.snapshots.publication": "Publication RawFile check_admissible land_raw publish_snapshot "
    "published_snapshots",
    "feature_repo.raw.snapshots.telco_csv": "check_size normalise read_raw",
    "feature_repo.raw.snapshots.timing": "Observation snapshot_observation feature_rows label_rows",
    "feature_repo.stores.casting": "to_dataframe to_python_values",
    "feature_repo.stores.customers": "InactiveCounts active_customers newest_customers",
    "feature_repo.stores.engine": "ColumnarComputeEngine.materialize ColumnarComputeEngineConfig",
    "feature_repo.stores.errors": "translate_store_errors",
    "feature_repo.stores.feature_store": "open_feature_store redis_connection repo_config",
    "feature_repo.stores.freshness": "Freshness Freshness.age RowAge ViewState parse_freshness",
    "feature_repo.stores.historical_features": "get_historical_features",
    "feature_repo.stores.materialize": "Materialized materialize",
    "feature_repo.stores.offline": "AsofOfflineStore.get_historical_features AsofOfflineStore.offline_write_batch "
    "AsofOfflineStore.pull_latest_from_table_or_query "
    "AsofOfflineStore.write_logged_features AsofOfflineStoreConfig",
    "feature_repo.stores.online_features": "OnlineFeatureReader OnlineFeatureReader.read "
    "OnlineFeatureReader.read_batch",
    "feature_repo.stores.online_read.rows": "OnlineRow",
    "feature_repo.stores.online_redis": "PlannedRedisOnlineStore.online_write_batch",
    "feature_repo.stores.online_sqlite": "PlannedSqliteOnlineStore.online_read "
    "PlannedSqliteOnlineStore.online_write_batch",
    "feature_repo.stores.registration": "apply",
    "feature_repo.stores.vectors": "encode_features",
    "feature_repo.transforms": "derive milestones windows tiles",
    "flows.steps.build_features": "build_features build_activity",
    "flows.steps.check_parity": "check_parity report",
    "flows.steps.compare": "ComparisonResult compare_models",
    "flows.steps.data_age": "data_ages",
    "flows.steps.evaluate": "evaluate_csv",
    "flows.steps.inbox": "LeftFile WaitingFile accept move_to_ingested named",
    "flows.steps.ingest_events": "EventIngestion ingest_events",
    "flows.steps.ingest_snapshot": "SnapshotIngestion ingest_snapshot",
    "flows.steps.monitor": "run_monitor",
    "flows.steps.next_command": "Progress",
    "flows.steps.promote": "PromotionOutcome begin_trial compare_and_promote is_named promote_challenger roll_back",
    "flows.steps.retraining_policy": "admit_retraining",
    "flows.steps.train": "train_challenger registered_challenger",
    "flows.steps.trial": "TrialResult run_trial",
    "monitoring.churn_rate": "churn_rate_bounds",
    "monitoring.drift": "BaselineColumn BinCounts DriftRow make_baseline compare_drift",
    "monitoring.parity": "ParityCounts ParityCounts.add",
    "monitoring.performance": "check_performance",
    "training.data.heldout": "save_heldout read_heldout",
    "training.data.labels": "load_labels",
    "training.data.split": "folds moments",
    "training.data.training_set": "TrainingSet load_training_set historical_features",
    "training.metrics.paired_bootstrap": "Gain bootstrap_gains",
    "training.metrics.profit": "ExpectedProfit Targeting check_scores empc profit_curve best_targeting targeting_at",
    "training.metrics.scores": "Difference Estimate measure_metrics paired_difference measure_slices",
    "training.promotion": "Rule Verdict Evidence decide",
}
"""Module -> its classes and functions whose arguments, results and errors must stand in numpydoc sections."""


def tree(module):
    path = PROJECT_ROOT.joinpath(*module.split("."))
    return ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8"))


def docstring(module, name):
    node = tree(module)
    for part in name.split("."):
        # The last of a name: overloads come before what they overload.
        node = next(each for each in reversed(node.body) if getattr(each, "name", None) == part)
    return ast.get_docstring(node) or ""


def listed(table):
    return [(module, name) for module, names in table.items() for name in names.split()]


@pytest.mark.parametrize(("module", "name"), listed(DOORS))
def test_it_shows_an_example(module, name):
    assert "\nExamples\n--------\n" in docstring(module, name)
    assert ">>> " in docstring(module, name)


@pytest.mark.parametrize(("module", "name"), listed(SECTIONS))
def test_it_has_sections(module, name):
    assert SECTION.search(docstring(module, name))


@pytest.mark.parametrize("module", sorted({*DOORS, *SECTIONS}))
def test_its_module_names_the_page_on_why(module):
    text = ast.get_docstring(tree(module)) or ""
    package = ast.get_docstring(tree(module.rpartition(".")[0])) or ""
    assert PAGE.search(text) or PAGE.search(package)


def unbound(source):
    """Names that an example uses and neither imports nor defines."""
    nodes = list(ast.walk(ast.parse(source)))
    used = {each.id for each in nodes if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}
    bound = {each.id for each in nodes if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load)}
    bound |= {each.arg for each in nodes if isinstance(each, ast.arg)}
    bound |= {
        each.name for each in nodes if isinstance(each, ast.ExceptHandler | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    imported = [alias for each in nodes if isinstance(each, ast.Import | ast.ImportFrom) for alias in each.names]
    bound |= {alias.asname or alias.name.partition(".")[0] for alias in imported}
    return used - bound - set(dir(builtins))


def test_examples_import_what_they_use():
    found = []
    for package in PACKAGES:
        for path in (PROJECT_ROOT / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if ">>> " not in text:
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    examples = doctest.DocTestParser().get_examples(ast.get_docstring(node) or "")
                    names = unbound("".join(each.source for each in examples))
                    found += [f"{path.name}: {getattr(node, 'name', 'module')} uses {name}" for name in names]
    assert found == []


def words(text):
    return set(re.findall(r"\w+", REFERENCE.sub("", text)))


def test_names_that_docstrings_refer_to_exist():
    """A name without its module is one of the same file; the last part of a longer one is some module's, or a name."""
    texts = {
        path: path.read_text(encoding="utf-8") for each in PACKAGES for path in (PROJECT_ROOT / each).rglob("*.py")
    }
    known = {path.stem for path in texts}.union(*map(words, texts.values()))
    lost = []
    for path, text in texts.items():
        own = words(text)
        for name in REFERENCE.findall(text):
            first, _, last = name.rpartition(".")
            lost += [f"{path.name}: {name}"] if last not in (known if first else own) else []
    assert lost == []


def test_pages_that_docstrings_name_exist():
    missing = []
    for package in PACKAGES:
        for path in (PROJECT_ROOT / package).rglob("*.py"):
            pages = set(PAGE.findall(path.read_text(encoding="utf-8")))
            missing += [f"{path.name}: {page}" for page in pages if not (PROJECT_ROOT / page).is_file()]
    assert missing == []
