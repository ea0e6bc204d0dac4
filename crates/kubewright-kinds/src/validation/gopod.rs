//! The shape of the internal pod spec, for the differences that messages about pods show. Only the order and
//! names of fields are here; nothing is checked.

use serde_json::Value;

use super::gotypes::{Go, GoField};

const LOCAL_REFERENCE: &[GoField] = &[("Name", "name", Go::Text)];
const KEY_TO_PATH: &[GoField] =
    &[("Key", "key", Go::Text), ("Path", "path", Go::Text), ("Mode", "mode", Go::Raw)];
const KEY_REFERENCE: &[GoField] =
    &[("Name", "name", Go::Text), ("Key", "key", Go::Text), ("Optional", "optional", Go::Raw)];
const NAMED_OPTIONAL: &[GoField] = &[("Name", "name", Go::Text), ("Optional", "optional", Go::Raw)];
const FIELD_REFERENCE: &[GoField] =
    &[("APIVersion", "apiVersion", Go::Text), ("FieldPath", "fieldPath", Go::Text)];
const RESOURCE_REFERENCE: &[GoField] = &[
    ("ContainerName", "containerName", Go::Text),
    ("Resource", "resource", Go::Text),
    ("Divisor", "divisor", Go::Int),
];
const DOWNWARD_FILE: &[GoField] = &[
    ("Path", "path", Go::Text),
    ("FieldRef", "fieldRef", Go::Ptr(FIELD_REFERENCE)),
    ("ResourceFieldRef", "resourceFieldRef", Go::Ptr(RESOURCE_REFERENCE)),
    ("Mode", "mode", Go::Raw),
];
const PROJECTION: &[GoField] = &[
    (
        "Secret",
        "secret",
        Go::Ptr(&[
            ("Name", "name", Go::Text),
            ("Items", "items", Go::List(KEY_TO_PATH)),
            ("Optional", "optional", Go::Raw),
        ]),
    ),
    ("DownwardAPI", "downwardAPI", Go::Ptr(&[("Items", "items", Go::List(DOWNWARD_FILE))])),
    (
        "ConfigMap",
        "configMap",
        Go::Ptr(&[
            ("Name", "name", Go::Text),
            ("Items", "items", Go::List(KEY_TO_PATH)),
            ("Optional", "optional", Go::Raw),
        ]),
    ),
    (
        "ServiceAccountToken",
        "serviceAccountToken",
        Go::Ptr(&[
            ("Audience", "audience", Go::Text),
            ("ExpirationSeconds", "expirationSeconds", Go::Int),
            ("Path", "path", Go::Text),
        ]),
    ),
    ("ClusterTrustBundle", "clusterTrustBundle", Go::Raw),
    ("PodCertificate", "podCertificate", Go::Raw),
];

const VOLUME: &[GoField] = &[
    ("Name", "name", Go::Text),
    ("HostPath", "hostPath", Go::Ptr(&[("Path", "path", Go::Text), ("Type", "type", Go::Raw)])),
    ("EmptyDir", "emptyDir", Go::Ptr(&[("Medium", "medium", Go::Text), ("SizeLimit", "sizeLimit", Go::Raw)])),
    ("GCEPersistentDisk", "gcePersistentDisk", Go::Raw),
    ("AWSElasticBlockStore", "awsElasticBlockStore", Go::Raw),
    ("GitRepo", "gitRepo", Go::Raw),
    (
        "Secret",
        "secret",
        Go::Ptr(&[
            ("SecretName", "secretName", Go::Text),
            ("Items", "items", Go::List(KEY_TO_PATH)),
            ("DefaultMode", "defaultMode", Go::Raw),
            ("Optional", "optional", Go::Raw),
        ]),
    ),
    (
        "NFS",
        "nfs",
        Go::Ptr(&[
            ("Server", "server", Go::Text),
            ("Path", "path", Go::Text),
            ("ReadOnly", "readOnly", Go::Bool),
        ]),
    ),
    ("ISCSI", "iscsi", Go::Raw),
    ("Glusterfs", "glusterfs", Go::Raw),
    (
        "PersistentVolumeClaim",
        "persistentVolumeClaim",
        Go::Ptr(&[("ClaimName", "claimName", Go::Text), ("ReadOnly", "readOnly", Go::Bool)]),
    ),
    ("RBD", "rbd", Go::Raw),
    ("Quobyte", "quobyte", Go::Raw),
    ("FlexVolume", "flexVolume", Go::Raw),
    ("Cinder", "cinder", Go::Raw),
    ("CephFS", "cephfs", Go::Raw),
    ("Flocker", "flocker", Go::Raw),
    (
        "DownwardAPI",
        "downwardAPI",
        Go::Ptr(&[("Items", "items", Go::List(DOWNWARD_FILE)), ("DefaultMode", "defaultMode", Go::Raw)]),
    ),
    ("FC", "fc", Go::Raw),
    ("AzureFile", "azureFile", Go::Raw),
    (
        "ConfigMap",
        "configMap",
        Go::Ptr(&[
            ("Name", "name", Go::Text),
            ("Items", "items", Go::List(KEY_TO_PATH)),
            ("DefaultMode", "defaultMode", Go::Raw),
            ("Optional", "optional", Go::Raw),
        ]),
    ),
    ("VsphereVolume", "vsphereVolume", Go::Raw),
    ("AzureDisk", "azureDisk", Go::Raw),
    ("PhotonPersistentDisk", "photonPersistentDisk", Go::Raw),
    (
        "Projected",
        "projected",
        Go::Ptr(&[("Sources", "sources", Go::List(PROJECTION)), ("DefaultMode", "defaultMode", Go::Raw)]),
    ),
    ("PortworxVolume", "portworxVolume", Go::Raw),
    ("ScaleIO", "scaleIO", Go::Raw),
    ("StorageOS", "storageos", Go::Raw),
    ("CSI", "csi", Go::Raw),
    ("Ephemeral", "ephemeral", Go::Raw),
    (
        "Image",
        "image",
        Go::Ptr(&[("Reference", "reference", Go::Text), ("PullPolicy", "pullPolicy", Go::Text)]),
    ),
];

const PORT: &[GoField] = &[
    ("Name", "name", Go::Text),
    ("HostPort", "hostPort", Go::Int),
    ("ContainerPort", "containerPort", Go::Int),
    ("Protocol", "protocol", Go::Text),
    ("HostIP", "hostIP", Go::Text),
];
const ENV_FROM: &[GoField] = &[
    ("Prefix", "prefix", Go::Text),
    ("ConfigMapRef", "configMapRef", Go::Ptr(NAMED_OPTIONAL)),
    ("SecretRef", "secretRef", Go::Ptr(NAMED_OPTIONAL)),
];
const ENV: &[GoField] = &[
    ("Name", "name", Go::Text),
    ("Value", "value", Go::Text),
    (
        "ValueFrom",
        "valueFrom",
        Go::Ptr(&[
            ("FieldRef", "fieldRef", Go::Ptr(FIELD_REFERENCE)),
            ("ResourceFieldRef", "resourceFieldRef", Go::Ptr(RESOURCE_REFERENCE)),
            ("ConfigMapKeyRef", "configMapKeyRef", Go::Ptr(KEY_REFERENCE)),
            ("SecretKeyRef", "secretKeyRef", Go::Ptr(KEY_REFERENCE)),
            (
                "FileKeyRef",
                "fileKeyRef",
                Go::Ptr(&[
                    ("VolumeName", "volumeName", Go::Text),
                    ("Path", "path", Go::Text),
                    ("Key", "key", Go::Text),
                    ("Optional", "optional", Go::Raw),
                ]),
            ),
        ]),
    ),
];
const RESOURCES: &[GoField] = &[
    ("Limits", "limits", Go::Raw),
    ("Requests", "requests", Go::Raw),
    ("Claims", "claims", Go::List(&[("Name", "name", Go::Text), ("Request", "request", Go::Text)])),
];
const RESIZE_POLICY: &[GoField] =
    &[("ResourceName", "resourceName", Go::Text), ("RestartPolicy", "restartPolicy", Go::Text)];
const RESTART_RULE: &[GoField] = &[
    ("Action", "action", Go::Text),
    ("ExitCodes", "exitCodes", Go::Ptr(&[("Operator", "operator", Go::Text), ("Values", "values", Go::Raw)])),
];
const MOUNT: &[GoField] = &[
    ("Name", "name", Go::Text),
    ("ReadOnly", "readOnly", Go::Bool),
    ("RecursiveReadOnly", "recursiveReadOnly", Go::Raw),
    ("MountPath", "mountPath", Go::Text),
    ("SubPath", "subPath", Go::Text),
    ("MountPropagation", "mountPropagation", Go::Raw),
    ("SubPathExpr", "subPathExpr", Go::Text),
];
const EXEC: &[GoField] = &[("Command", "command", Go::Raw)];
const HTTP_GET: &[GoField] = &[
    ("Path", "path", Go::Text),
    ("Port", "port", Go::Int),
    ("Host", "host", Go::Text),
    ("Scheme", "scheme", Go::Text),
    ("HTTPHeaders", "httpHeaders", Go::List(&[("Name", "name", Go::Text), ("Value", "value", Go::Text)])),
];
const TCP_SOCKET: &[GoField] = &[("Port", "port", Go::Int), ("Host", "host", Go::Text)];
const PROBE: &[GoField] = &[
    ("Exec", "exec", Go::Ptr(EXEC)),
    ("HTTPGet", "httpGet", Go::Ptr(HTTP_GET)),
    ("TCPSocket", "tcpSocket", Go::Ptr(TCP_SOCKET)),
    ("GRPC", "grpc", Go::Ptr(&[("Port", "port", Go::Int), ("Service", "service", Go::Raw)])),
    ("InitialDelaySeconds", "initialDelaySeconds", Go::Int),
    ("TimeoutSeconds", "timeoutSeconds", Go::Int),
    ("PeriodSeconds", "periodSeconds", Go::Int),
    ("SuccessThreshold", "successThreshold", Go::Int),
    ("FailureThreshold", "failureThreshold", Go::Int),
    ("TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", Go::Raw),
];
const HOOK: &[GoField] = &[
    ("Exec", "exec", Go::Ptr(EXEC)),
    ("HTTPGet", "httpGet", Go::Ptr(HTTP_GET)),
    ("TCPSocket", "tcpSocket", Go::Ptr(TCP_SOCKET)),
    ("Sleep", "sleep", Go::Ptr(&[("Seconds", "seconds", Go::Int)])),
];

macro_rules! container_fields {
    ($($extra:expr)?) => {
        &[
            ("Name", "name", Go::Text),
            ("Image", "image", Go::Text),
            ("Command", "command", Go::Raw),
            ("Args", "args", Go::Raw),
            ("WorkingDir", "workingDir", Go::Text),
            ("Ports", "ports", Go::List(PORT)),
            ("EnvFrom", "envFrom", Go::List(ENV_FROM)),
            ("Env", "env", Go::List(ENV)),
            ("Resources", "resources", Go::Struct(RESOURCES)),
            ("ResizePolicy", "resizePolicy", Go::List(RESIZE_POLICY)),
            ("RestartPolicy", "restartPolicy", Go::Raw),
            ("RestartPolicyRules", "restartPolicyRules", Go::List(RESTART_RULE)),
            ("VolumeMounts", "volumeMounts", Go::List(MOUNT)),
            (
                "VolumeDevices",
                "volumeDevices",
                Go::List(&[("Name", "name", Go::Text), ("DevicePath", "devicePath", Go::Text)]),
            ),
            ("LivenessProbe", "livenessProbe", Go::Ptr(PROBE)),
            ("ReadinessProbe", "readinessProbe", Go::Ptr(PROBE)),
            ("StartupProbe", "startupProbe", Go::Ptr(PROBE)),
            (
                "Lifecycle",
                "lifecycle",
                Go::Ptr(&[
                    ("PostStart", "postStart", Go::Ptr(HOOK)),
                    ("PreStop", "preStop", Go::Ptr(HOOK)),
                    ("StopSignal", "stopSignal", Go::Raw),
                ]),
            ),
            ("TerminationMessagePath", "terminationMessagePath", Go::Text),
            ("TerminationMessagePolicy", "terminationMessagePolicy", Go::Text),
            ("ImagePullPolicy", "imagePullPolicy", Go::Text),
            ("SecurityContext", "securityContext", super::gotypes::SECURITY_CONTEXT),
            ("Stdin", "stdin", Go::Bool),
            ("StdinOnce", "stdinOnce", Go::Bool),
            ("TTY", "tty", Go::Bool),
            $($extra,)?
        ]
    };
}

const CONTAINER: &[GoField] = container_fields!();
const EPHEMERAL: &[GoField] = container_fields!(("TargetContainerName", "targetContainerName", Go::Text));
/// `core.EphemeralContainer`.
pub(super) const EPHEMERAL_CONTAINER: Go = Go::Struct(EPHEMERAL);

const POD_SECURITY_CONTEXT: &[GoField] = &[
    ("HostNetwork", "hostNetwork", Go::Bool),
    ("HostPID", "hostPID", Go::Bool),
    ("HostIPC", "hostIPC", Go::Bool),
    ("ShareProcessNamespace", "shareProcessNamespace", Go::Raw),
    ("HostUsers", "hostUsers", Go::Raw),
    ("SELinuxOptions", "seLinuxOptions", Go::Raw),
    ("WindowsOptions", "windowsOptions", Go::Raw),
    ("RunAsUser", "runAsUser", Go::Raw),
    ("RunAsGroup", "runAsGroup", Go::Raw),
    ("RunAsNonRoot", "runAsNonRoot", Go::Raw),
    ("SupplementalGroups", "supplementalGroups", Go::Raw),
    ("SupplementalGroupsPolicy", "supplementalGroupsPolicy", Go::Raw),
    ("FSGroup", "fsGroup", Go::Raw),
    ("FSGroupChangePolicy", "fsGroupChangePolicy", Go::Raw),
    ("Sysctls", "sysctls", Go::List(&[("Name", "name", Go::Text), ("Value", "value", Go::Text)])),
    ("SeccompProfile", "seccompProfile", super::gotypes::SECCOMP_PROFILE),
    ("AppArmorProfile", "appArmorProfile", super::gotypes::SECCOMP_PROFILE),
    ("SELinuxChangePolicy", "seLinuxChangePolicy", Go::Raw),
];
const TOLERATION: &[GoField] = &[
    ("Key", "key", Go::Text),
    ("Operator", "operator", Go::Text),
    ("Value", "value", Go::Text),
    ("Effect", "effect", Go::Text),
    ("TolerationSeconds", "tolerationSeconds", Go::Raw),
];
/// `core.Toleration`.
pub(super) const ONE_TOLERATION: Go = Go::Struct(TOLERATION);
const SPREAD: &[GoField] = &[
    ("MaxSkew", "maxSkew", Go::Int),
    ("TopologyKey", "topologyKey", Go::Text),
    ("WhenUnsatisfiable", "whenUnsatisfiable", Go::Text),
    ("LabelSelector", "labelSelector", Go::Raw),
    ("MinDomains", "minDomains", Go::Raw),
    ("NodeAffinityPolicy", "nodeAffinityPolicy", Go::Raw),
    ("NodeTaintsPolicy", "nodeTaintsPolicy", Go::Raw),
    ("MatchLabelKeys", "matchLabelKeys", Go::Raw),
];
const DNS_CONFIG: &[GoField] = &[
    ("Nameservers", "nameservers", Go::Raw),
    ("Searches", "searches", Go::Raw),
    ("Options", "options", Go::List(&[("Name", "name", Go::Text), ("Value", "value", Go::Raw)])),
];

/// `core.PodSpec`.
pub(super) const POD_SPEC: Go = Go::Struct(&[
    ("Volumes", "volumes", Go::List(VOLUME)),
    ("InitContainers", "initContainers", Go::List(CONTAINER)),
    ("Containers", "containers", Go::List(CONTAINER)),
    ("EphemeralContainers", "ephemeralContainers", Go::List(EPHEMERAL)),
    ("RestartPolicy", "restartPolicy", Go::Text),
    ("TerminationGracePeriodSeconds", "terminationGracePeriodSeconds", Go::Raw),
    ("ActiveDeadlineSeconds", "activeDeadlineSeconds", Go::Raw),
    ("DNSPolicy", "dnsPolicy", Go::Text),
    ("NodeSelector", "nodeSelector", Go::Raw),
    ("ServiceAccountName", "serviceAccountName", Go::Text),
    ("AutomountServiceAccountToken", "automountServiceAccountToken", Go::Raw),
    ("NodeName", "nodeName", Go::Text),
    ("SecurityContext", "securityContext", Go::Ptr(POD_SECURITY_CONTEXT)),
    ("ImagePullSecrets", "imagePullSecrets", Go::List(LOCAL_REFERENCE)),
    ("Hostname", "hostname", Go::Text),
    ("Subdomain", "subdomain", Go::Text),
    ("SetHostnameAsFQDN", "setHostnameAsFQDN", Go::Raw),
    ("Affinity", "affinity", Go::Raw),
    ("SchedulerName", "schedulerName", Go::Text),
    ("Tolerations", "tolerations", Go::List(TOLERATION)),
    ("HostAliases", "hostAliases", Go::List(&[("IP", "ip", Go::Text), ("Hostnames", "hostnames", Go::Raw)])),
    ("PriorityClassName", "priorityClassName", Go::Text),
    ("Priority", "priority", Go::Raw),
    ("PreemptionPolicy", "preemptionPolicy", Go::Raw),
    ("DNSConfig", "dnsConfig", Go::Ptr(DNS_CONFIG)),
    ("ReadinessGates", "readinessGates", Go::List(&[("ConditionType", "conditionType", Go::Text)])),
    ("RuntimeClassName", "runtimeClassName", Go::Raw),
    ("Overhead", "overhead", Go::Raw),
    ("EnableServiceLinks", "enableServiceLinks", Go::Raw),
    ("TopologySpreadConstraints", "topologySpreadConstraints", Go::List(SPREAD)),
    ("OS", "os", Go::Ptr(LOCAL_REFERENCE)),
    ("SchedulingGates", "schedulingGates", Go::List(LOCAL_REFERENCE)),
    (
        "ResourceClaims",
        "resourceClaims",
        Go::List(&[
            ("Name", "name", Go::Text),
            ("ResourceClaimName", "resourceClaimName", Go::Raw),
            ("ResourceClaimTemplateName", "resourceClaimTemplateName", Go::Raw),
        ]),
    ),
    ("Resources", "resources", Go::Ptr(RESOURCES)),
    ("HostnameOverride", "hostnameOverride", Go::Raw),
]);

/// A pod spec as the internal type has it: what it shares with the host is part of its security context.
pub(super) fn internal(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let Some(fields) = spec.as_object_mut() else { return spec };
    let mut context = fields.remove("securityContext").unwrap_or_default();
    let mut moved = serde_json::Map::new();
    for name in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers"] {
        if let Some(value) = fields.remove(name) {
            moved.insert(name.to_string(), value);
        }
    }
    if context.is_null() && !moved.is_empty() {
        context = Value::Object(serde_json::Map::new());
    }
    if let Some(context) = context.as_object_mut() {
        context.append(&mut moved);
    }
    fields.insert("securityContext".to_string(), context);
    spec
}
