// Protobuf field numbers of the named groups' messages, read from the Kubernetes API types. Notation: decode.ts, their only reader.

export const GROUP_FIELDS: Readonly<Record<string, string>> = {
  'admissionregistration.AuditAnnotation': 'key:1*s valueExpression:2*s',
  'admissionregistration.ExpressionWarning': 'fieldRef:2*s warning:3*s',
  'admissionregistration.MatchCondition': 'name:1*s expression:2*s',
  'admissionregistration.MatchResources':
    'namespaceSelector:1<LabelSelector> objectSelector:2<LabelSelector> resourceRules:3+<admissionregistration.NamedRuleWithOperations> excludeResourceRules:4+<admissionregistration.NamedRuleWithOperations> matchPolicy:7*s',
  'admissionregistration.MutatingWebhook':
    'name:1*s clientConfig:2<admissionregistration.WebhookClientConfig> rules:3+<admissionregistration.RuleWithOperations> failurePolicy:4*s matchPolicy:9*s namespaceSelector:5<LabelSelector> objectSelector:11<LabelSelector> sideEffects:6*s timeoutSeconds:7*i admissionReviewVersions:8+s reinvocationPolicy:10*s matchConditions:12+<admissionregistration.MatchCondition>',
  'admissionregistration.MutatingWebhookConfiguration':
    'metadata:1<ObjectMeta> webhooks:2+<admissionregistration.MutatingWebhook>',
  'admissionregistration.NamedRuleWithOperations': 'resourceNames:1+s .:2<admissionregistration.RuleWithOperations>',
  'admissionregistration.ParamKind': 'apiVersion:1s kind:2s',
  'admissionregistration.ParamRef': 'name:1s namespace:2s selector:3<LabelSelector> parameterNotFoundAction:4*s',
  'admissionregistration.Rule': 'apiGroups:1+s apiVersions:2+s resources:3+s scope:4*s',
  'admissionregistration.RuleWithOperations': 'operations:1+s .:2<admissionregistration.Rule>',
  'admissionregistration.ServiceReference': 'namespace:1*s name:2*s path:3*s port:4*i',
  'admissionregistration.TypeChecking': 'expressionWarnings:1+<admissionregistration.ExpressionWarning>',
  'admissionregistration.ValidatingAdmissionPolicy':
    'metadata:1<ObjectMeta> spec:2<admissionregistration.ValidatingAdmissionPolicySpec> status:3<admissionregistration.ValidatingAdmissionPolicyStatus>',
  'admissionregistration.ValidatingAdmissionPolicyBinding':
    'metadata:1<ObjectMeta> spec:2<admissionregistration.ValidatingAdmissionPolicyBindingSpec>',
  'admissionregistration.ValidatingAdmissionPolicyBindingSpec':
    'policyName:1s paramRef:2<admissionregistration.ParamRef> matchResources:3<admissionregistration.MatchResources> validationActions:4+s',
  'admissionregistration.ValidatingAdmissionPolicySpec':
    'paramKind:1<admissionregistration.ParamKind> matchConstraints:2<admissionregistration.MatchResources> validations:3+<admissionregistration.Validation> failurePolicy:4*s auditAnnotations:5+<admissionregistration.AuditAnnotation> matchConditions:6+<admissionregistration.MatchCondition> variables:7+<admissionregistration.Variable>',
  'admissionregistration.ValidatingAdmissionPolicyStatus':
    'observedGeneration:1i typeChecking:2<admissionregistration.TypeChecking> conditions:3+<Condition>',
  'admissionregistration.ValidatingWebhook':
    'name:1*s clientConfig:2<admissionregistration.WebhookClientConfig> rules:3+<admissionregistration.RuleWithOperations> failurePolicy:4*s matchPolicy:9*s namespaceSelector:5<LabelSelector> objectSelector:10<LabelSelector> sideEffects:6*s timeoutSeconds:7*i admissionReviewVersions:8+s matchConditions:11+<admissionregistration.MatchCondition>',
  'admissionregistration.ValidatingWebhookConfiguration':
    'metadata:1<ObjectMeta> webhooks:2+<admissionregistration.ValidatingWebhook>',
  'admissionregistration.Validation': 'expression:1*s message:2s reason:3*s messageExpression:4s',
  'admissionregistration.Variable': 'name:1*s expression:2*s',
  'admissionregistration.WebhookClientConfig': 'url:3*s service:1<admissionregistration.ServiceReference> caBundle:2y',
  'apps.ControllerRevision': 'metadata:1<ObjectMeta> data:2R revision:3*i',
  'apps.DaemonSet': 'metadata:1<ObjectMeta> spec:2<apps.DaemonSetSpec> status:3<apps.DaemonSetStatus>',
  'apps.DaemonSetCondition': 'type:1*s status:2*s lastTransitionTime:3T reason:4s message:5s',
  'apps.DaemonSetSpec':
    'selector:1<LabelSelector> template:2<PodTemplateSpec> updateStrategy:3<apps.DaemonSetUpdateStrategy> minReadySeconds:4i revisionHistoryLimit:6*i',
  'apps.DaemonSetStatus':
    'currentNumberScheduled:1*i numberMisscheduled:2*i desiredNumberScheduled:3*i numberReady:4*i observedGeneration:5i updatedNumberScheduled:6i numberAvailable:7i numberUnavailable:8i collisionCount:9*i conditions:10+<apps.DaemonSetCondition>',
  'apps.DaemonSetUpdateStrategy': 'type:1s rollingUpdate:2<apps.RollingUpdateDaemonSet>',
  'apps.Deployment': 'metadata:1<ObjectMeta> spec:2<apps.DeploymentSpec> status:3<apps.DeploymentStatus>',
  'apps.DeploymentCondition': 'type:1*s status:2*s lastUpdateTime:6T lastTransitionTime:7T reason:4s message:5s',
  'apps.DeploymentSpec':
    'replicas:1*i selector:2<LabelSelector> template:3<PodTemplateSpec> strategy:4<apps.DeploymentStrategy> minReadySeconds:5i revisionHistoryLimit:6*i paused:7b progressDeadlineSeconds:9*i',
  'apps.DeploymentStatus':
    'observedGeneration:1i replicas:2i updatedReplicas:3i readyReplicas:7i availableReplicas:4i unavailableReplicas:5i terminatingReplicas:9*i conditions:6+<apps.DeploymentCondition> collisionCount:8*i',
  'apps.DeploymentStrategy': 'type:1s rollingUpdate:2<apps.RollingUpdateDeployment>',
  'apps.ReplicaSet': 'metadata:1<ObjectMeta> spec:2<apps.ReplicaSetSpec> status:3<apps.ReplicaSetStatus>',
  'apps.ReplicaSetCondition': 'type:1*s status:2*s lastTransitionTime:3T reason:4s message:5s',
  'apps.ReplicaSetSpec': 'replicas:1*i minReadySeconds:4i selector:2<LabelSelector> template:3<PodTemplateSpec>',
  'apps.ReplicaSetStatus':
    'replicas:1*i fullyLabeledReplicas:2i readyReplicas:4i availableReplicas:5i terminatingReplicas:7*i observedGeneration:3i conditions:6+<apps.ReplicaSetCondition>',
  'apps.RollingUpdateDaemonSet': 'maxUnavailable:1*I maxSurge:2*I',
  'apps.RollingUpdateDeployment': 'maxUnavailable:1*I maxSurge:2*I',
  'apps.RollingUpdateStatefulSetStrategy': 'partition:1*i maxUnavailable:2*I',
  'apps.StatefulSet': 'metadata:1<ObjectMeta> spec:2<apps.StatefulSetSpec> status:3<apps.StatefulSetStatus>',
  'apps.StatefulSetCondition': 'type:1*s status:2*s lastTransitionTime:3T reason:4s message:5s',
  'apps.StatefulSetOrdinals': 'start:1*i',
  'apps.StatefulSetPersistentVolumeClaimRetentionPolicy': 'whenDeleted:1s whenScaled:2s',
  'apps.StatefulSetSpec':
    'replicas:1*i selector:2<LabelSelector> template:3<PodTemplateSpec> volumeClaimTemplates:4+<PersistentVolumeClaim> serviceName:5*s podManagementPolicy:6s updateStrategy:7<apps.StatefulSetUpdateStrategy> revisionHistoryLimit:8*i minReadySeconds:9i persistentVolumeClaimRetentionPolicy:10<apps.StatefulSetPersistentVolumeClaimRetentionPolicy> ordinals:11<apps.StatefulSetOrdinals>',
  'apps.StatefulSetStatus':
    'observedGeneration:1i replicas:2*i readyReplicas:3i currentReplicas:4i updatedReplicas:5i currentRevision:6s updateRevision:7s collisionCount:9*i conditions:10+<apps.StatefulSetCondition> availableReplicas:11*i',
  'apps.StatefulSetUpdateStrategy': 'type:1s rollingUpdate:2<apps.RollingUpdateStatefulSetStrategy>',
  'authentication.BoundObjectReference': 'kind:1s apiVersion:2s name:3s uid:4s',
  'authentication.SelfSubjectReview': 'metadata:1<ObjectMeta> status:2<authentication.SelfSubjectReviewStatus>',
  'authentication.SelfSubjectReviewStatus': 'userInfo:1<authentication.UserInfo>',
  'authentication.TokenRequest':
    'metadata:1<ObjectMeta> spec:2<authentication.TokenRequestSpec> status:3<authentication.TokenRequestStatus>',
  'authentication.TokenRequestSpec':
    'audiences:1+s expirationSeconds:4*i boundObjectRef:3<authentication.BoundObjectReference> attestations:5%@s',
  'authentication.TokenRequestStatus': 'token:1*s expirationTimestamp:2T',
  'authentication.TokenReview':
    'metadata:1<ObjectMeta> spec:2<authentication.TokenReviewSpec> status:3<authentication.TokenReviewStatus>',
  'authentication.TokenReviewSpec': 'token:1s audiences:2+s',
  'authentication.TokenReviewStatus': 'authenticated:1b user:2<authentication.UserInfo> audiences:4+s error:3s',
  'authentication.UserInfo': 'username:1s uid:2s groups:3+s extra:4%@s',
  'authorization.FieldSelectorAttributes': 'rawSelector:1s requirements:2+<FieldSelectorRequirement>',
  'authorization.LabelSelectorAttributes': 'rawSelector:1s requirements:2+<LabelSelectorRequirement>',
  'authorization.LocalSubjectAccessReview':
    'metadata:1<ObjectMeta> spec:2<authorization.SubjectAccessReviewSpec> status:3<authorization.SubjectAccessReviewStatus>',
  'authorization.NonResourceAttributes': 'path:1s verb:2s',
  'authorization.NonResourceRule': 'verbs:1+s nonResourceURLs:2+s',
  'authorization.ResourceAttributes':
    'namespace:1s verb:2s group:3s version:4s resource:5s subresource:6s name:7s fieldSelector:8<authorization.FieldSelectorAttributes> labelSelector:9<authorization.LabelSelectorAttributes>',
  'authorization.ResourceRule': 'verbs:1+s apiGroups:2+s resources:3+s resourceNames:4+s',
  'authorization.SelfSubjectAccessReview':
    'metadata:1<ObjectMeta> spec:2<authorization.SelfSubjectAccessReviewSpec> status:3<authorization.SubjectAccessReviewStatus>',
  'authorization.SelfSubjectAccessReviewSpec':
    'resourceAttributes:1<authorization.ResourceAttributes> nonResourceAttributes:2<authorization.NonResourceAttributes>',
  'authorization.SelfSubjectRulesReview':
    'metadata:1<ObjectMeta> spec:2<authorization.SelfSubjectRulesReviewSpec> status:3<authorization.SubjectRulesReviewStatus>',
  'authorization.SelfSubjectRulesReviewSpec': 'namespace:1s',
  'authorization.SubjectAccessReview':
    'metadata:1<ObjectMeta> spec:2<authorization.SubjectAccessReviewSpec> status:3<authorization.SubjectAccessReviewStatus>',
  'authorization.SubjectAccessReviewSpec':
    'resourceAttributes:1<authorization.ResourceAttributes> nonResourceAttributes:2<authorization.NonResourceAttributes> user:3s groups:4+s extra:5%@s uid:6s',
  'authorization.SubjectAccessReviewStatus': 'allowed:1*b denied:4b reason:2s evaluationError:3s',
  'authorization.SubjectRulesReviewStatus':
    'resourceRules:1+<authorization.ResourceRule> nonResourceRules:2+<authorization.NonResourceRule> incomplete:3*b evaluationError:4s',
  'autoscaling.ContainerResourceMetricSource': 'name:1*s target:2<autoscaling.MetricTarget> container:3*s',
  'autoscaling.ContainerResourceMetricStatus': 'name:1*s current:2<autoscaling.MetricValueStatus> container:3*s',
  'autoscaling.CrossVersionObjectReference': 'kind:1*s name:2*s apiVersion:3s',
  'autoscaling.ExternalMetricSource': 'metric:1<autoscaling.MetricIdentifier> target:2<autoscaling.MetricTarget>',
  'autoscaling.ExternalMetricStatus': 'metric:1<autoscaling.MetricIdentifier> current:2<autoscaling.MetricValueStatus>',
  'autoscaling.HPAScalingPolicy': 'type:1*s value:2*i periodSeconds:3*i',
  'autoscaling.HPAScalingRules':
    'stabilizationWindowSeconds:3*i selectPolicy:1*s policies:2+<autoscaling.HPAScalingPolicy> tolerance:4Q',
  'autoscaling.HorizontalPodAutoscaler':
    'metadata:1<ObjectMeta> spec:2<autoscaling.HorizontalPodAutoscalerSpec> status:3<autoscaling.HorizontalPodAutoscalerStatus>',
  'autoscaling.HorizontalPodAutoscalerBehavior':
    'scaleUp:1<autoscaling.HPAScalingRules> scaleDown:2<autoscaling.HPAScalingRules>',
  'autoscaling.HorizontalPodAutoscalerCondition':
    'type:1*s status:2*s lastTransitionTime:3T reason:4s message:5s observedGeneration:6*i',
  'autoscaling.HorizontalPodAutoscalerSpec':
    'scaleTargetRef:1<autoscaling.CrossVersionObjectReference> minReplicas:2*i maxReplicas:3*i metrics:4+<autoscaling.MetricSpec> behavior:5<autoscaling.HorizontalPodAutoscalerBehavior>',
  'autoscaling.HorizontalPodAutoscalerStatus':
    'observedGeneration:1*i lastScaleTime:2T currentReplicas:3i desiredReplicas:4*i currentMetrics:5+<autoscaling.MetricStatus> conditions:6+<autoscaling.HorizontalPodAutoscalerCondition>',
  'autoscaling.MetricIdentifier': 'name:1*s selector:2<LabelSelector>',
  'autoscaling.MetricSpec':
    'type:1*s object:2<autoscaling.ObjectMetricSource> pods:3<autoscaling.PodsMetricSource> resource:4<autoscaling.ResourceMetricSource> containerResource:7<autoscaling.ContainerResourceMetricSource> external:5<autoscaling.ExternalMetricSource>',
  'autoscaling.MetricStatus':
    'type:1*s object:2<autoscaling.ObjectMetricStatus> pods:3<autoscaling.PodsMetricStatus> resource:4<autoscaling.ResourceMetricStatus> containerResource:7<autoscaling.ContainerResourceMetricStatus> external:5<autoscaling.ExternalMetricStatus>',
  'autoscaling.MetricTarget': 'type:1*s value:2Q averageValue:3Q averageUtilization:4*i',
  'autoscaling.MetricValueStatus': 'value:1Q averageValue:2Q averageUtilization:3*i',
  'autoscaling.ObjectMetricSource':
    'describedObject:1<autoscaling.CrossVersionObjectReference> target:2<autoscaling.MetricTarget> metric:3<autoscaling.MetricIdentifier>',
  'autoscaling.ObjectMetricStatus':
    'metric:1<autoscaling.MetricIdentifier> current:2<autoscaling.MetricValueStatus> describedObject:3<autoscaling.CrossVersionObjectReference>',
  'autoscaling.PodsMetricSource': 'metric:1<autoscaling.MetricIdentifier> target:2<autoscaling.MetricTarget>',
  'autoscaling.PodsMetricStatus': 'metric:1<autoscaling.MetricIdentifier> current:2<autoscaling.MetricValueStatus>',
  'autoscaling.ResourceMetricSource': 'name:1*s target:2<autoscaling.MetricTarget>',
  'autoscaling.ResourceMetricStatus': 'name:1*s current:2<autoscaling.MetricValueStatus>',
  'autoscaling1.Scale': 'metadata:1<ObjectMeta> spec:2<autoscaling1.ScaleSpec> status:3<autoscaling1.ScaleStatus>',
  'autoscaling1.ScaleSpec': 'replicas:1i',
  'autoscaling1.ScaleStatus': 'replicas:1*i selector:2s',
  'batch.CronJob': 'metadata:1<ObjectMeta> spec:2<batch.CronJobSpec> status:3<batch.CronJobStatus>',
  'batch.CronJobSpec':
    'schedule:1*s timeZone:8*s startingDeadlineSeconds:2*i concurrencyPolicy:3s suspend:4*b jobTemplate:5<batch.JobTemplateSpec> successfulJobsHistoryLimit:6*i failedJobsHistoryLimit:7*i',
  'batch.CronJobStatus': 'active:1+<ObjectReference> lastScheduleTime:4T lastSuccessfulTime:5T',
  'batch.Job': 'metadata:1<ObjectMeta> spec:2<batch.JobSpec> status:3<batch.JobStatus>',
  'batch.JobCondition': 'type:1*s status:2*s lastProbeTime:3T lastTransitionTime:4T reason:5s message:6s',
  'batch.JobSchedulingConfiguration': '',
  'batch.JobSpec':
    'parallelism:1*i completions:2*i activeDeadlineSeconds:3*i podFailurePolicy:11<batch.PodFailurePolicy> successPolicy:16<batch.SuccessPolicy> backoffLimit:7*i backoffLimitPerIndex:12*i maxFailedIndexes:13*i selector:4<LabelSelector> manualSelector:5*b template:6<PodTemplateSpec> ttlSecondsAfterFinished:8*i completionMode:9*s suspend:10*b podReplacementPolicy:14*s managedBy:15*s scheduling:17<batch.JobSchedulingConfiguration>',
  'batch.JobStatus':
    'conditions:1+<batch.JobCondition> startTime:2T completionTime:3T active:4i succeeded:5i failed:6i terminating:11*i completedIndexes:7s failedIndexes:10*s uncountedTerminatedPods:8<batch.UncountedTerminatedPods> ready:9*i',
  'batch.JobTemplateSpec': 'metadata:1<ObjectMeta> spec:2<batch.JobSpec>',
  'batch.PodFailurePolicy': 'rules:1+<batch.PodFailurePolicyRule>',
  'batch.PodFailurePolicyOnExitCodesRequirement': 'containerName:1*s operator:2*s values:3+i',
  'batch.PodFailurePolicyOnPodConditionsPattern': 'type:1*s status:2*s',
  'batch.PodFailurePolicyRule':
    'action:1*s onExitCodes:2<batch.PodFailurePolicyOnExitCodesRequirement> onPodConditions:3+<batch.PodFailurePolicyOnPodConditionsPattern>',
  'batch.SuccessPolicy': 'rules:1+<batch.SuccessPolicyRule>',
  'batch.SuccessPolicyRule': 'succeededIndexes:1*s succeededCount:2*i',
  'batch.UncountedTerminatedPods': 'succeeded:1+s failed:2+s',
  'coordination.Lease': 'metadata:1<ObjectMeta> spec:2<coordination.LeaseSpec>',
  'coordination.LeaseSpec':
    'holderIdentity:1*s leaseDurationSeconds:2*i acquireTime:3M renewTime:4M leaseTransitions:5*i strategy:6*s preferredHolder:7*s',
  'discovery.Endpoint':
    'addresses:1+s conditions:2<discovery.EndpointConditions> hostname:3*s targetRef:4<ObjectReference> deprecatedTopology:5%s nodeName:6*s zone:7*s hints:8<discovery.EndpointHints>',
  'discovery.EndpointConditions': 'ready:1*b serving:2*b terminating:3*b',
  'discovery.EndpointHints': 'forZones:1+<discovery.ForZone> forNodes:2+<discovery.ForNode>',
  'discovery.EndpointPort': 'name:1*s protocol:2*s port:3*i appProtocol:4*s',
  'discovery.EndpointSlice':
    'metadata:1<ObjectMeta> addressType:4*s endpoints:2+<discovery.Endpoint> ports:3+<discovery.EndpointPort>',
  'discovery.ForNode': 'name:1*s',
  'discovery.ForZone': 'name:1*s',
  'events.Event':
    'metadata:1<ObjectMeta> eventTime:2M series:3<events.EventSeries> reportingController:4s reportingInstance:5s action:6s reason:7s regarding:8<ObjectReference> related:9<ObjectReference> note:10s type:11s deprecatedSource:12<EventSource> deprecatedFirstTimestamp:13T deprecatedLastTimestamp:14T deprecatedCount:15i',
  'events.EventSeries': 'count:1*i lastObservedTime:2M',
  'networking.HTTPIngressPath': 'path:1s pathType:3*s backend:2<networking.IngressBackend>',
  'networking.HTTPIngressRuleValue': 'paths:1+<networking.HTTPIngressPath>',
  'networking.IPBlock': 'cidr:1*s except:2+s',
  'networking.Ingress': 'metadata:1<ObjectMeta> spec:2<networking.IngressSpec> status:3<networking.IngressStatus>',
  'networking.IngressBackend': 'service:4<networking.IngressServiceBackend> resource:3<TypedLocalObjectReference>',
  'networking.IngressClass': 'metadata:1<ObjectMeta> spec:2<networking.IngressClassSpec>',
  'networking.IngressClassParametersReference': 'apiGroup:1*s kind:2*s name:3*s scope:4*s namespace:5*s',
  'networking.IngressClassSpec': 'controller:1s parameters:2<networking.IngressClassParametersReference>',
  'networking.IngressLoadBalancerIngress': 'ip:1s hostname:2s ports:4+<networking.IngressPortStatus>',
  'networking.IngressLoadBalancerStatus': 'ingress:1+<networking.IngressLoadBalancerIngress>',
  'networking.IngressPortStatus': 'port:1*i protocol:2*s error:3*s',
  'networking.IngressRule': 'host:1s .:2<networking.IngressRuleValue>',
  'networking.IngressRuleValue': 'http:1<networking.HTTPIngressRuleValue>',
  'networking.IngressServiceBackend': 'name:1*s port:2<networking.ServiceBackendPort>',
  'networking.IngressSpec':
    'ingressClassName:4*s defaultBackend:1<networking.IngressBackend> tls:2+<networking.IngressTLS> rules:3+<networking.IngressRule>',
  'networking.IngressStatus': 'loadBalancer:1<networking.IngressLoadBalancerStatus>',
  'networking.IngressTLS': 'hosts:1+s secretName:2s',
  'networking.NetworkPolicy': 'metadata:1<ObjectMeta> spec:2<networking.NetworkPolicySpec>',
  'networking.NetworkPolicyEgressRule': 'ports:1+<networking.NetworkPolicyPort> to:2+<networking.NetworkPolicyPeer>',
  'networking.NetworkPolicyIngressRule': 'ports:1+<networking.NetworkPolicyPort> from:2+<networking.NetworkPolicyPeer>',
  'networking.NetworkPolicyPeer':
    'podSelector:1<LabelSelector> namespaceSelector:2<LabelSelector> ipBlock:3<networking.IPBlock>',
  'networking.NetworkPolicyPort': 'protocol:1*s port:2*I endPort:3*i',
  'networking.NetworkPolicySpec':
    'podSelector:1<LabelSelector> ingress:2+<networking.NetworkPolicyIngressRule> egress:3+<networking.NetworkPolicyEgressRule> policyTypes:4+s',
  'networking.ServiceBackendPort': 'name:1s number:2i',
  'policy.Eviction': 'metadata:1<ObjectMeta> deleteOptions:2<DeleteOptions>',
  'policy.PodDisruptionBudget':
    'metadata:1<ObjectMeta> spec:2<policy.PodDisruptionBudgetSpec> status:3<policy.PodDisruptionBudgetStatus>',
  'policy.PodDisruptionBudgetSpec':
    'minAvailable:1*I selector:2<LabelSelector> maxUnavailable:3*I unhealthyPodEvictionPolicy:4*s',
  'policy.PodDisruptionBudgetStatus':
    'observedGeneration:1i disruptedPods:2%T disruptionsAllowed:3*i currentHealthy:4*i desiredHealthy:5*i expectedPods:6*i conditions:7+<Condition>',
  'rbac.AggregationRule': 'clusterRoleSelectors:1+<LabelSelector>',
  'rbac.ClusterRole': 'metadata:1<ObjectMeta> rules:2+<rbac.PolicyRule> aggregationRule:3<rbac.AggregationRule>',
  'rbac.ClusterRoleBinding': 'metadata:1<ObjectMeta> subjects:2+<rbac.Subject> roleRef:3<rbac.RoleRef>',
  'rbac.PolicyRule': 'verbs:1+s apiGroups:2+s resources:3+s resourceNames:4+s nonResourceURLs:5+s',
  'rbac.Role': 'metadata:1<ObjectMeta> rules:2+<rbac.PolicyRule>',
  'rbac.RoleBinding': 'metadata:1<ObjectMeta> subjects:2+<rbac.Subject> roleRef:3<rbac.RoleRef>',
  'rbac.RoleRef': 'apiGroup:1*s kind:2*s name:3*s',
  'rbac.Subject': 'kind:1*s apiGroup:2s name:3*s namespace:4s',
  'scheduling.PriorityClass': 'metadata:1<ObjectMeta> value:2*i globalDefault:3b description:4s preemptionPolicy:5*s',
  'storage.StorageClass':
    'metadata:1<ObjectMeta> provisioner:2*s parameters:3%s reclaimPolicy:4*s mountOptions:5+s allowVolumeExpansion:6*b volumeBindingMode:7*s allowedTopologies:8+<TopologySelectorTerm>',
};

/** `apiVersion/Kind` → message. */
export const ROOT_MESSAGES: Readonly<Record<string, string>> = {
  'v1/ConfigMap': 'ConfigMap',
  'v1/Endpoints': 'Endpoints',
  'v1/Event': 'Event',
  'v1/LimitRange': 'LimitRange',
  'v1/Namespace': 'Namespace',
  'v1/Node': 'Node',
  'v1/PersistentVolumeClaim': 'PersistentVolumeClaim',
  'v1/PersistentVolume': 'PersistentVolume',
  'v1/Pod': 'Pod',
  'v1/PodTemplate': 'PodTemplate',
  'v1/ReplicationController': 'ReplicationController',
  'v1/ResourceQuota': 'ResourceQuota',
  'v1/Secret': 'Secret',
  'v1/ServiceAccount': 'ServiceAccount',
  'v1/Service': 'Service',
  'v1/Binding': 'Binding',
  'apps/v1/ControllerRevision': 'apps.ControllerRevision',
  'apps/v1/DaemonSet': 'apps.DaemonSet',
  'apps/v1/Deployment': 'apps.Deployment',
  'apps/v1/ReplicaSet': 'apps.ReplicaSet',
  'apps/v1/StatefulSet': 'apps.StatefulSet',
  'batch/v1/CronJob': 'batch.CronJob',
  'batch/v1/Job': 'batch.Job',
  'discovery.k8s.io/v1/EndpointSlice': 'discovery.EndpointSlice',
  'events.k8s.io/v1/Event': 'events.Event',
  'coordination.k8s.io/v1/Lease': 'coordination.Lease',
  'rbac.authorization.k8s.io/v1/ClusterRoleBinding': 'rbac.ClusterRoleBinding',
  'rbac.authorization.k8s.io/v1/ClusterRole': 'rbac.ClusterRole',
  'rbac.authorization.k8s.io/v1/RoleBinding': 'rbac.RoleBinding',
  'rbac.authorization.k8s.io/v1/Role': 'rbac.Role',
  'policy/v1/PodDisruptionBudget': 'policy.PodDisruptionBudget',
  'policy/v1/Eviction': 'policy.Eviction',
  'autoscaling/v2/HorizontalPodAutoscaler': 'autoscaling.HorizontalPodAutoscaler',
  'autoscaling/v1/Scale': 'autoscaling1.Scale',
  'networking.k8s.io/v1/IngressClass': 'networking.IngressClass',
  'networking.k8s.io/v1/Ingress': 'networking.Ingress',
  'networking.k8s.io/v1/NetworkPolicy': 'networking.NetworkPolicy',
  'admissionregistration.k8s.io/v1/MutatingWebhookConfiguration': 'admissionregistration.MutatingWebhookConfiguration',
  'admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration':
    'admissionregistration.ValidatingWebhookConfiguration',
  'admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy': 'admissionregistration.ValidatingAdmissionPolicy',
  'admissionregistration.k8s.io/v1/ValidatingAdmissionPolicyBinding':
    'admissionregistration.ValidatingAdmissionPolicyBinding',
  'authentication.k8s.io/v1/TokenReview': 'authentication.TokenReview',
  'authentication.k8s.io/v1/SelfSubjectReview': 'authentication.SelfSubjectReview',
  'authentication.k8s.io/v1/TokenRequest': 'authentication.TokenRequest',
  'authorization.k8s.io/v1/LocalSubjectAccessReview': 'authorization.LocalSubjectAccessReview',
  'authorization.k8s.io/v1/SelfSubjectAccessReview': 'authorization.SelfSubjectAccessReview',
  'authorization.k8s.io/v1/SelfSubjectRulesReview': 'authorization.SelfSubjectRulesReview',
  'authorization.k8s.io/v1/SubjectAccessReview': 'authorization.SubjectAccessReview',
  'scheduling.k8s.io/v1/PriorityClass': 'scheduling.PriorityClass',
  'storage.k8s.io/v1/StorageClass': 'storage.StorageClass',
  'meta.k8s.io/v1/DeleteOptions': 'DeleteOptions',
};
