//! What is shipped to run kmirror as a service: nothing here starts a container or a unit, but every object is held against the
//! types of Kubernetes' own API, and everything that must agree with something else is seen to.

mod systemd;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kmirror::engine::STOP_SECONDS_MAX;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_yaml::Value;

use crate::tidy::{assert_parses, valid_config};

const FOLDER: &str = "configs/kubernetes";

/// `monitoring.coreos.com/v1` `ServiceMonitor`, as far as it is used: the operator's type is no part of Kubernetes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ServiceMonitor {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: ObjectMeta,
    spec: ServiceMonitorSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceMonitorSpec {
    selector: LabelSelector,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    port: String,
    path: String,
    #[serde(rename = "interval")]
    _interval: String,
}

/// `kustomize.config.k8s.io/v1beta1` `Kustomization`, as far as it is used.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    labels: Vec<Labels>,
    resources: Vec<String>,
    config_map_generator: Vec<Generator>,
    generator_options: GeneratorOptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labels {
    pairs: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Generator {
    name: String,
    files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct GeneratorOptions {
    disable_name_suffix_hash: bool,
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn path(name: &str) -> PathBuf {
    project().join(FOLDER).join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The file's one object, of the kind that is asked for, with no field that this kind does not have.
fn object<T: DeserializeOwned>(name: &str, api_version: &str, kind: &str) -> T {
    object_of(&text(name), name, api_version, kind)
}

fn object_of<T: DeserializeOwned>(text: &str, name: &str, api_version: &str, kind: &str) -> T {
    let value: Value = serde_yaml::from_str(text).unwrap();
    assert_eq!((value["apiVersion"].as_str(), value["kind"].as_str()), (Some(api_version), Some(kind)), "{name}");
    let mut unknown = Vec::new();
    let found = serde_ignored::deserialize(value, |field| unknown.push(field.to_string()));
    let found = found.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(unknown.is_empty(), "{name}: {kind} of {api_version} has no {unknown:?}");
    found
}

fn deployment() -> Deployment {
    object("deployment.yaml", "apps/v1", "Deployment")
}

fn service() -> Service {
    object("service.yaml", "v1", "Service")
}

fn container(deployment: &Deployment) -> Container {
    let pod = deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let [container] = &pod.containers[..] else { panic!("one container") };
    container.clone()
}

fn pod_labels(deployment: &Deployment) -> BTreeMap<String, String> {
    deployment.spec.as_ref().unwrap().template.metadata.as_ref().unwrap().labels.clone().unwrap()
}

fn name_of(object: &impl Metadata<Ty = ObjectMeta>) -> String {
    object.metadata().name.clone().unwrap()
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() {
    let wrong = text("deployment.yaml").replace("terminationGracePeriodSeconds", "terminationGracePeriod");
    let outcome = std::panic::catch_unwind(|| object_of::<Deployment>(&wrong, "wrong", "apps/v1", "Deployment"));
    let why = outcome.unwrap_err().downcast_ref::<String>().cloned().unwrap();
    assert!(why.contains("terminationGracePeriod\"]"), "{why}");
}

#[test]
fn every_file_is_one_of_the_kustomization() {
    let kustomization: Kustomization = object("kustomization.yaml", "kustomize.config.k8s.io/v1beta1", "Kustomization");
    let generated = kustomization.config_map_generator.iter().flat_map(|generator| &generator.files);
    let named: BTreeSet<String> = kustomization.resources.iter().chain(generated).cloned().collect();
    let mut there: BTreeSet<String> = std::fs::read_dir(path("")).unwrap().map(file_name).collect();
    assert!(there.remove("kustomization.yaml"));
    assert_eq!(named, there);
    let labels = pod_labels(&deployment());
    assert!(kustomization.labels.iter().all(|more| more.pairs == labels));
}

fn file_name(entry: std::io::Result<std::fs::DirEntry>) -> String {
    entry.unwrap().file_name().into_string().unwrap()
}

#[test]
fn the_pods_run_a_valid_configuration_where_they_look_for_it() {
    let kustomization: Kustomization = object("kustomization.yaml", "kustomize.config.k8s.io/v1beta1", "Kustomization");
    let [generator] = &kustomization.config_map_generator[..] else { panic!("one ConfigMap") };
    assert!(kustomization.generator_options.disable_name_suffix_hash, "the deployment names it without");
    let deployment = deployment();
    let container = container(&deployment);
    let pod = deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
    let volumes = pod.volumes.as_ref().unwrap();
    let volume = volumes.iter().find(|volume| volume.config_map.as_ref().is_some_and(|map| map.name == generator.name));
    let mounts = container.volume_mounts.as_ref().unwrap();
    let mount = mounts.iter().find(|mount| mount.name == volume.unwrap().name).unwrap();
    let file = format!("{}/{}", mount.mount_path, generator.files[0]);
    let args = container.args.as_ref().unwrap();
    assert!(args.contains(&file), "{args:?} read another file than {file}");
    assert_parses(&format!("kmirror {}", args.join(" ")), "deployment.yaml");
    let config = valid_config(&text(&generator.files[0]), &generator.files[0]);
    // Without a fleet the newest pod would put the others out, again and again.
    assert!(config.fleet.is_some() || deployment.spec.as_ref().unwrap().replicas == Some(1));
    let known: BTreeSet<&String> = volumes.iter().map(|volume| &volume.name).collect();
    assert!(mounts.iter().all(|mount| known.contains(&mount.name) && mount.read_only == Some(true)));
}

#[test]
fn the_secrets_of_the_configuration_are_mounted() {
    let secrets = regex::Regex::new(r"\$\{file:([^}]+)/([^/}]+)\}").unwrap();
    let config = text("kmirror.yaml");
    let found: Vec<_> =
        secrets.captures_iter(&config).map(|found| (found[1].to_owned(), found[2].to_owned())).collect();
    assert_eq!(found.len(), 2, "a password each");
    let deployment = deployment();
    let mounts = container(&deployment).volume_mounts.unwrap();
    for (folder, key) in found {
        let mount = mounts.iter().find(|mount| mount.mount_path == folder).unwrap();
        let pod = deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap();
        let volume = pod.volumes.as_ref().unwrap().iter().find(|volume| volume.name == mount.name).unwrap();
        let secret = volume.secret.as_ref().unwrap().secret_name.as_ref().unwrap();
        let how = config.lines().find(|line| line.contains("kubectl create secret")).unwrap();
        assert!(how.contains(secret) && how.contains(&format!("--from-file={key}")), "{how}");
    }
}

/// What a probe asks for, and the number of its port.
fn asked(container: &Container, probe: Option<&Probe>) -> (String, i32) {
    let HTTPGetAction { path, port, .. } = probe.unwrap().http_get.clone().unwrap();
    let IntOrString::String(name) = port else { panic!("a port by its name") };
    let ports = container.ports.as_ref().unwrap();
    let port = ports.iter().find(|port| port.name.as_ref() == Some(&name)).unwrap();
    (path.unwrap(), port.container_port)
}

#[test]
fn probes_and_monitor_ask_where_kmirror_answers() {
    let config = valid_config(&text("kmirror.yaml"), "kmirror.yaml");
    let port = i32::from(config.http.unwrap().probes.unwrap().port());
    let container = container(&deployment());
    assert_eq!(asked(&container, container.startup_probe.as_ref()), ("/healthz".to_owned(), port));
    assert_eq!(asked(&container, container.liveness_probe.as_ref()), ("/healthz".to_owned(), port));
    assert_eq!(asked(&container, container.readiness_probe.as_ref()), ("/readyz".to_owned(), port));
    let service = service();
    let [of_service] = &service.spec.as_ref().unwrap().ports.as_ref().unwrap()[..] else { panic!("one port") };
    assert_eq!(of_service.port, port);
    let monitor: ServiceMonitor = object("servicemonitor.yaml", "monitoring.coreos.com/v1", "ServiceMonitor");
    let [endpoint] = &monitor.spec.endpoints[..] else { panic!("one endpoint") };
    assert_eq!((Some(&endpoint.port), endpoint.path.as_str()), (of_service.name.as_ref(), "/metrics"));
    assert_eq!(monitor.spec.selector.match_labels, service.metadata.labels);
    assert_eq!(monitor.metadata.name, service.metadata.name);
}

#[test]
fn all_select_the_pods() {
    let deployment = deployment();
    let labels = Some(pod_labels(&deployment));
    let spec = deployment.spec.as_ref().unwrap();
    assert_eq!(spec.selector.match_labels, labels);
    assert_eq!(service().spec.unwrap().selector, labels);
    let budget: PodDisruptionBudget = object("poddisruptionbudget.yaml", "policy/v1", "PodDisruptionBudget");
    let budget = budget.spec.unwrap();
    assert_eq!(budget.selector.unwrap().match_labels, labels);
    // With `minAvailable` a deployment of one pod would hold up every drain of its node.
    assert_eq!(budget.max_unavailable, Some(IntOrString::Int(1)));
    let account: ServiceAccount = object("serviceaccount.yaml", "v1", "ServiceAccount");
    assert_eq!(spec.template.spec.as_ref().unwrap().service_account_name, Some(name_of(&account)));
}

#[test]
fn a_pod_has_the_time_for_a_clean_stop() {
    let deployment = deployment();
    let grace = deployment.spec.unwrap().template.spec.unwrap().termination_grace_period_seconds.unwrap();
    assert!(grace >= i64::from(STOP_SECONDS_MAX) + 15, "{grace}");
}

#[test]
fn a_pod_is_nobody_and_may_do_nothing() {
    let deployment = deployment();
    let container = container(&deployment).security_context.unwrap();
    assert_eq!((container.allow_privilege_escalation, container.read_only_root_filesystem), (Some(false), Some(true)));
    assert_eq!(container.capabilities.unwrap().drop, Some(vec!["ALL".to_owned()]));
    let pod = deployment.spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert_eq!(pod.security_context.unwrap().run_as_non_root, Some(true));
}
