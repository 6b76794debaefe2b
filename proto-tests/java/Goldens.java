import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.*;
import org.apache.kafka.common.message.ApiMessageType.ListenerType;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.ControlRecordType;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;
import org.apache.kafka.common.record.internal.EndTransactionMarker;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MemoryRecordsBuilder;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.requests.RequestHeader;
import org.apache.kafka.common.requests.RequestUtils;
import org.apache.kafka.common.utils.AppInfoParser;
import org.apache.kafka.common.utils.ByteBufferOutputStream;

/**
 * Bytes as Kafka's own code writes them, for tests that hold kmirror's code against them: `Goldens wire` prints
 * requests and responses, `Goldens batches` record batches, one `name hex` a line, under a comment that says which
 * class wrote it, in which version, and with which values. The output stands in `proto-tests/goldens/`.
 */
public final class Goldens {
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    private static final String CLIENT_ID = "kmirror-golden";
    private static final int CORRELATION_ID = 7;
    private static final Uuid ID_A = new Uuid(0x0102030405060708L, 0x090a0b0c0d0e0f10L);
    private static final Uuid ID_B = new Uuid(0x1112131415161718L, 0x191a1b1c1d1e1f20L);

    public static void main(String[] argv) {
        OUT.println("# Written by Kafka's own classes: proto-tests/java/Goldens.java " + argv[0]
                + ", kafka-clients " + AppInfoParser.getVersion() + ".");
        OUT.println("# Do not edit: proto-tests/goldens.rs says how to write it anew.");
        switch (argv[0]) {
            case "wire" -> {
                OUT.println("# Whole frames, size and header included; client id " + CLIENT_ID + ", correlation id "
                        + CORRELATION_ID + ".");
                produce();
                fetch();
                cluster();
                offsets();
                transactions();
                topics();
                sasl();
                groups();
                changes();
                principals();
            }
            case "batches" -> batches();
            default -> throw new IllegalArgumentException(argv[0]);
        }
        OUT.flush();
    }

    // --- Requests and responses.

    private static void request(String name, ApiKeys api, int version, ApiMessage data) {
        RequestHeader header = new RequestHeader(api, (short) version, CLIENT_ID, CORRELATION_ID);
        frame(name, version, data,
                RequestUtils.serialize(header.data(), header.headerVersion(), data, (short) version));
    }

    private static void response(String name, ApiKeys api, int version, ApiMessage data) {
        ResponseHeaderData header = new ResponseHeaderData().setCorrelationId(CORRELATION_ID);
        frame(name, version, data, RequestUtils.serialize(
                header, api.responseHeaderVersion((short) version), data, (short) version));
    }

    private static void frame(String name, int version, ApiMessage data, ByteBuffer body) {
        ByteBuffer whole = ByteBuffer.allocate(4 + body.remaining());
        whole.putInt(body.remaining()).put(body).flip();
        OUT.println("#");
        OUT.println("# " + data.getClass().getSimpleName() + " v" + version + ": " + data);
        line(name, whole);
    }

    private static void line(String name, ByteBuffer bytes) {
        byte[] all = new byte[bytes.remaining()];
        bytes.duplicate().get(all);
        OUT.println(name + " " + HexFormat.of().formatHex(all));
    }

    private static void produce() {
        for (int version = 7; version <= 13; version++) {
            request("produce_request_v" + version, ApiKeys.PRODUCE, version, produceRequest());
            response("produce_response_v" + version, ApiKeys.PRODUCE, version, produceResponse(version));
        }
    }

    private static ProduceRequestData produceRequest() {
        var a = new ProduceRequestData.TopicProduceData().setName("alpha").setTopicId(ID_A);
        a.partitionData().add(partition(0, stamped(Compression.NONE)));
        a.partitionData().add(partition(3, stamped(Compression.zstd().build())));
        var b = new ProduceRequestData.TopicProduceData().setName("beta").setTopicId(ID_B);
        b.partitionData().add(partition(1, stamped(Compression.lz4().build())));
        var data = new ProduceRequestData().setTransactionalId(null).setAcks((short) -1).setTimeoutMs(30_000);
        data.topicData().add(a);
        data.topicData().add(b);
        return data;
    }

    private static ProduceRequestData.PartitionProduceData partition(int index, MemoryRecords records) {
        return new ProduceRequestData.PartitionProduceData().setIndex(index).setRecords(records);
    }

    private static ProduceResponseData produceResponse(int version) {
        var good = new ProduceResponseData.PartitionProduceResponse().setIndex(0).setBaseOffset(1L << 40)
                .setLogAppendTimeMs(-1).setLogStartOffset(17);
        var refused = new ProduceResponseData.PartitionProduceResponse().setIndex(3).setErrorCode((short) 87)
                .setBaseOffset(-1).setLogStartOffset(-1);
        if (version >= 8) {
            refused.setErrorMessage("as a whole");
            refused.recordErrors().add(new ProduceResponseData.BatchIndexAndErrorMessage().setBatchIndex(2)
                    .setBatchIndexErrorMessage("one record"));
            refused.recordErrors().add(new ProduceResponseData.BatchIndexAndErrorMessage().setBatchIndex(4));
        }
        var moved = new ProduceResponseData.PartitionProduceResponse().setIndex(1).setErrorCode((short) 6)
                .setBaseOffset(-1).setLogAppendTimeMs(1_700_000_000_123L).setLogStartOffset(-1);
        if (version >= 10) {
            moved.currentLeader().setLeaderId(2).setLeaderEpoch(9);
        }
        var a = new ProduceResponseData.TopicProduceResponse().setName("alpha").setTopicId(ID_A)
                .setPartitionResponses(List.of(good, refused));
        var b = new ProduceResponseData.TopicProduceResponse().setName("beta").setTopicId(ID_B)
                .setPartitionResponses(List.of(moved));
        var data = new ProduceResponseData().setThrottleTimeMs(11);
        data.responses().add(a);
        data.responses().add(b);
        if (version >= 10) {
            data.nodeEndpoints().add(new ProduceResponseData.NodeEndpoint().setNodeId(2).setHost("two").setPort(9092));
        }
        return data;
    }

    private static void fetch() {
        for (int version = 7; version <= 17; version++) {
            request("fetch_full_request_v" + version, ApiKeys.FETCH, version, fetchRequest(0, 0).setTopics(List.of(
                    fetchTopic("alpha", ID_A, fetchPartition(version, 0, 100)),
                    fetchTopic("beta", ID_B, fetchPartition(version, 4, 1L << 40)))));
            response("fetch_response_v" + version, ApiKeys.FETCH, version, fetchResponse(version));
            var forgotten = new FetchRequestData.ForgottenTopic().setTopic("beta").setTopicId(ID_B)
                    .setPartitions(List.of(4));
            request("fetch_next_request_v" + version, ApiKeys.FETCH, version, fetchRequest(0x5e551071, 1).setTopics(
                    List.of(fetchTopic("alpha", ID_A, fetchPartition(version, 0, 104),
                            fetchPartition(version, 2, 0)))).setForgottenTopicsData(List.of(forgotten)));
        }
        request("fetch_log_request", ApiKeys.FETCH, 12, fetchRequest(0, -1).setMaxWaitMs(100).setMaxBytes(1 << 20)
                .setTopics(List.of(fetchTopic("alpha", ID_A, new FetchRequestData.FetchPartition().setPartition(0)
                        .setFetchOffset(100).setPartitionMaxBytes(1 << 20)))));
    }

    private static FetchRequestData fetchRequest(int session, int epoch) {
        return new FetchRequestData().setReplicaId(-1).setMaxWaitMs(500).setMinBytes(1).setMaxBytes(50_000_000)
                .setIsolationLevel((byte) 1).setSessionId(session).setSessionEpoch(epoch);
    }

    private static FetchRequestData.FetchTopic fetchTopic(
            String name, Uuid id, FetchRequestData.FetchPartition... partitions) {
        return new FetchRequestData.FetchTopic().setTopic(name).setTopicId(id).setPartitions(List.of(partitions));
    }

    private static FetchRequestData.FetchPartition fetchPartition(int version, int number, long offset) {
        var partition = new FetchRequestData.FetchPartition().setPartition(number).setCurrentLeaderEpoch(5)
                .setFetchOffset(offset).setPartitionMaxBytes(1 << 20);
        // Not ignorable: a version without it cannot carry it.
        return version >= 12 ? partition.setLastFetchedEpoch(4) : partition;
    }

    private static FetchResponseData fetchResponse(int version) {
        var data = new FetchResponseData.PartitionData().setPartitionIndex(0).setHighWatermark(200)
                .setLastStableOffset(190).setLogStartOffset(10).setRecords(fetched());
        data.setAbortedTransactions(List.of(
                new FetchResponseData.AbortedTransaction().setProducerId(123).setFirstOffset(104),
                new FetchResponseData.AbortedTransaction().setProducerId(1L << 33).setFirstOffset(150)));
        if (version >= 11) {
            data.setPreferredReadReplica(-1);
        }
        var other = new FetchResponseData.PartitionData().setPartitionIndex(4).setErrorCode((short) 6)
                .setHighWatermark(-1).setLastStableOffset(-1).setLogStartOffset(-1).setAbortedTransactions(null)
                .setRecords(MemoryRecords.EMPTY);
        if (version >= 12) {
            other.setDivergingEpoch(new FetchResponseData.EpochEndOffset().setEpoch(3).setEndOffset(77));
            other.setCurrentLeader(new FetchResponseData.LeaderIdAndEpoch().setLeaderId(2).setLeaderEpoch(9));
        }
        var response = new FetchResponseData().setThrottleTimeMs(13).setSessionId(0x5e551071).setResponses(List.of(
                new FetchResponseData.FetchableTopicResponse().setTopic("alpha").setTopicId(ID_A)
                        .setPartitions(List.of(data)),
                new FetchResponseData.FetchableTopicResponse().setTopic("beta").setTopicId(ID_B)
                        .setPartitions(List.of(other))));
        if (version >= 16) {
            response.nodeEndpoints().add(
                    new FetchResponseData.NodeEndpoint().setNodeId(2).setHost("two").setPort(9092));
        }
        return response;
    }

    /** What a broker sends: whole batches, and one that is cut short. */
    private static MemoryRecords fetched() {
        ByteBuffer whole = ByteBuffer.allocate(2_000);
        whole.put(plain(Compression.NONE).buffer()).put(marker(ControlRecordType.ABORT).buffer());
        whole.put(plain(Compression.NONE).buffer().limit(70)).flip();
        return MemoryRecords.readableRecords(whole);
    }

    private static void cluster() {
        var versions = new ApiVersionsResponseData();
        for (ApiKeys api : ApiKeys.apisForListener(ListenerType.BROKER)) {
            versions.apiKeys().add(new ApiVersionsResponseData.ApiVersion().setApiKey(api.id)
                    .setMinVersion(api.oldestVersion()).setMaxVersion(api.latestVersion(false)));
        }
        request("api_versions_request", ApiKeys.API_VERSIONS, 3, new ApiVersionsRequestData()
                .setClientSoftwareName("kmirror").setClientSoftwareVersion("version"));
        response("api_versions_response", ApiKeys.API_VERSIONS, 3, versions);
        request("metadata_none_request", ApiKeys.METADATA, 13,
                new MetadataRequestData().setAllowAutoTopicCreation(false));
        request("metadata_all_request", ApiKeys.METADATA, 13,
                new MetadataRequestData().setTopics(null).setAllowAutoTopicCreation(false));
        request("metadata_named_request", ApiKeys.METADATA, 13, new MetadataRequestData().setTopics(List.of(
                new MetadataRequestData.MetadataRequestTopic().setName("alpha"),
                new MetadataRequestData.MetadataRequestTopic().setName("beta"))).setAllowAutoTopicCreation(false));
        response("metadata_response", ApiKeys.METADATA, 13, metadata());
        request("metadata_alpha_request", ApiKeys.METADATA, 13, new MetadataRequestData().setTopics(List.of(
                new MetadataRequestData.MetadataRequestTopic().setName("alpha"))).setAllowAutoTopicCreation(false));
        var ready = metadata();
        ready.topics().find("alpha").partitions().remove(1);
        ready.topics().removeIf(topic -> topic.name().equals("beta"));
        response("metadata_alpha_response", ApiKeys.METADATA, 13, ready);
    }

    private static MetadataResponseData metadata() {
        var data = new MetadataResponseData().setClusterId("golden-cluster-id-0123").setControllerId(1);
        // The test puts the port of its own listener here.
        data.brokers().add(new MetadataResponseData.MetadataResponseBroker().setNodeId(1).setHost("127.0.0.1")
                .setPort(60001).setRack("rack"));
        var leading = new MetadataResponseData.MetadataResponsePartition().setPartitionIndex(0).setLeaderId(1)
                .setLeaderEpoch(5).setReplicaNodes(List.of(1, 2, 3)).setIsrNodes(List.of(1, 2))
                .setOfflineReplicas(List.of(3));
        var leaderless = new MetadataResponseData.MetadataResponsePartition().setPartitionIndex(1)
                .setErrorCode((short) 5).setLeaderId(-1).setLeaderEpoch(6).setReplicaNodes(List.of(3))
                .setIsrNodes(List.of());
        data.topics().add(new MetadataResponseData.MetadataResponseTopic().setName("alpha").setTopicId(ID_A)
                .setPartitions(new ArrayList<>(List.of(leading, leaderless))));
        data.topics().add(new MetadataResponseData.MetadataResponseTopic().setName("beta").setTopicId(ID_B)
                .setIsInternal(true).setErrorCode((short) 29));
        return data;
    }

    private static void offsets() {
        listOffsets("end", -1, (byte) 1, 190, -1);
        listOffsets("start", -2, (byte) 0, 10, -1);
        listOffsets("time", 1_700_000_000_000L, (byte) 0, 104, 1_700_000_000_007L);
        request("delete_records_request", ApiKeys.DELETE_RECORDS, 2, new DeleteRecordsRequestData()
                .setTimeoutMs(30_000).setTopics(List.of(new DeleteRecordsRequestData.DeleteRecordsTopic()
                        .setName("alpha").setPartitions(List.of(new DeleteRecordsRequestData.DeleteRecordsPartition()
                                .setPartitionIndex(0).setOffset(1L << 40))))));
        var topic = new DeleteRecordsResponseData.DeleteRecordsTopicResult().setName("alpha");
        topic.partitions().add(new DeleteRecordsResponseData.DeleteRecordsPartitionResult().setPartitionIndex(0)
                .setLowWatermark(1L << 40));
        var deleted = new DeleteRecordsResponseData();
        deleted.topics().add(topic);
        response("delete_records_response", ApiKeys.DELETE_RECORDS, 2, deleted);
    }

    private static void listOffsets(String name, long timestamp, byte isolation, long offset, long found) {
        request("list_offsets_" + name + "_request", ApiKeys.LIST_OFFSETS, 10, new ListOffsetsRequestData()
                .setReplicaId(-1).setIsolationLevel(isolation).setTopics(List.of(
                        new ListOffsetsRequestData.ListOffsetsTopic().setName("alpha").setPartitions(List.of(
                                new ListOffsetsRequestData.ListOffsetsPartition().setPartitionIndex(0)
                                        .setTimestamp(timestamp))))));
        response("list_offsets_" + name + "_response", ApiKeys.LIST_OFFSETS, 10, new ListOffsetsResponseData()
                .setTopics(List.of(new ListOffsetsResponseData.ListOffsetsTopicResponse().setName("alpha")
                        .setPartitions(List.of(new ListOffsetsResponseData.ListOffsetsPartitionResponse()
                                .setPartitionIndex(0).setTimestamp(found).setOffset(offset).setLeaderEpoch(5))))));
    }

    private static void transactions() {
        String txn = "kmirror.golden.3";
        request("find_coordinator_request", ApiKeys.FIND_COORDINATOR, 6,
                new FindCoordinatorRequestData().setCoordinatorKeys(List.of(txn)).setKeyType((byte) 1));
        response("find_coordinator_response", ApiKeys.FIND_COORDINATOR, 6,
                new FindCoordinatorResponseData().setCoordinators(List.of(coordinator(txn))));
        request("init_producer_id_request", ApiKeys.INIT_PRODUCER_ID, 5,
                new InitProducerIdRequestData().setTransactionalId(txn).setTransactionTimeoutMs(60_000));
        response("init_producer_id_response", ApiKeys.INIT_PRODUCER_ID, 5,
                new InitProducerIdResponseData().setProducerId(4000).setProducerEpoch((short) 7));
        request("init_producer_id_current_request", ApiKeys.INIT_PRODUCER_ID, 5, new InitProducerIdRequestData()
                .setTransactionalId(txn).setTransactionTimeoutMs(60_000).setProducerId(4000)
                .setProducerEpoch((short) 7));
        response("init_producer_id_current_response", ApiKeys.INIT_PRODUCER_ID, 5,
                new InitProducerIdResponseData().setProducerId(4000).setProducerEpoch((short) 8));
        var adding = new AddPartitionsToTxnRequestData().setV3AndBelowTransactionalId(txn)
                .setV3AndBelowProducerId(4000).setV3AndBelowProducerEpoch((short) 8);
        var added = new AddPartitionsToTxnResponseData();
        for (var entry : List.of(Map.entry("alpha", List.of(0, 2)), Map.entry("beta", List.of(4)))) {
            adding.v3AndBelowTopics().add(new AddPartitionsToTxnRequestData.AddPartitionsToTxnTopic()
                    .setName(entry.getKey()).setPartitions(entry.getValue()));
            var result = new AddPartitionsToTxnResponseData.AddPartitionsToTxnTopicResult().setName(entry.getKey());
            entry.getValue().forEach(partition -> result.resultsByPartition().add(
                    new AddPartitionsToTxnResponseData.AddPartitionsToTxnPartitionResult()
                            .setPartitionIndex(partition)));
            added.resultsByTopicV3AndBelow().add(result);
        }
        request("add_partitions_request", ApiKeys.ADD_PARTITIONS_TO_TXN, 3, adding);
        response("add_partitions_response", ApiKeys.ADD_PARTITIONS_TO_TXN, 3, added);
        request("end_txn_request", ApiKeys.END_TXN, 4, new EndTxnRequestData().setTransactionalId(txn)
                .setProducerId(4000).setProducerEpoch((short) 8).setCommitted(false));
        response("end_txn_response", ApiKeys.END_TXN, 4, new EndTxnResponseData());
        producers();
        markers();
    }

    private static FindCoordinatorResponseData.Coordinator coordinator(String key) {
        return new FindCoordinatorResponseData.Coordinator().setKey(key).setNodeId(1).setHost("127.0.0.1")
                .setPort(60001);
    }

    private static void producers() {
        request("describe_producers_request", ApiKeys.DESCRIBE_PRODUCERS, 0, new DescribeProducersRequestData()
                .setTopics(List.of(new DescribeProducersRequestData.TopicRequest().setName("alpha")
                        .setPartitionIndexes(List.of(0)))));
        var producer = new DescribeProducersResponseData.ProducerState().setProducerId(4000).setProducerEpoch(8)
                .setLastSequence(2_147_483_647).setLastTimestamp(1_700_000_000_000L).setCoordinatorEpoch(3)
                .setCurrentTxnStartOffset(-1);
        response("describe_producers_response", ApiKeys.DESCRIBE_PRODUCERS, 0, new DescribeProducersResponseData()
                .setTopics(List.of(new DescribeProducersResponseData.TopicResponse().setName("alpha")
                        .setPartitions(List.of(new DescribeProducersResponseData.PartitionResponse()
                                .setPartitionIndex(0).setActiveProducers(List.of(producer)))))));
    }

    private static void markers() {
        request("write_txn_markers_request", ApiKeys.WRITE_TXN_MARKERS, 1, new WriteTxnMarkersRequestData()
                .setMarkers(List.of(new WriteTxnMarkersRequestData.WritableTxnMarker().setProducerId(4000)
                        .setProducerEpoch((short) 8).setTransactionResult(false).setTopics(List.of(
                                new WriteTxnMarkersRequestData.WritableTxnMarkerTopic().setName("alpha")
                                        .setPartitionIndexes(List.of(0)))))));
        response("write_txn_markers_response", ApiKeys.WRITE_TXN_MARKERS, 1, new WriteTxnMarkersResponseData()
                .setMarkers(List.of(new WriteTxnMarkersResponseData.WritableTxnMarkerResult().setProducerId(4000)
                        .setTopics(List.of(new WriteTxnMarkersResponseData.WritableTxnMarkerTopicResult()
                                .setName("alpha").setPartitions(List.of(
                                        new WriteTxnMarkersResponseData.WritableTxnMarkerPartitionResult()
                                                .setPartitionIndex(0))))))));
    }

    private static void topics() {
        var configs = new CreateTopicsRequestData.CreatableTopicConfigCollection();
        configs.add(new CreateTopicsRequestData.CreatableTopicConfig().setName("cleanup.policy").setValue("compact"));
        configs.add(new CreateTopicsRequestData.CreatableTopicConfig().setName("compression.type")
                .setValue("producer"));
        var create = new CreateTopicsRequestData().setTimeoutMs(30_000);
        create.topics().add(new CreateTopicsRequestData.CreatableTopic().setName("alpha").setNumPartitions(2)
                .setReplicationFactor((short) -1).setConfigs(configs));
        request("create_topics_request", ApiKeys.CREATE_TOPICS, 7, create);
        var created = new CreateTopicsResponseData();
        created.topics().add(new CreateTopicsResponseData.CreatableTopicResult().setName("alpha").setTopicId(ID_A)
                .setErrorCode((short) 36).setErrorMessage("there already").setNumPartitions(-1)
                .setReplicationFactor((short) -1));
        response("create_topics_response", ApiKeys.CREATE_TOPICS, 7, created);
        var grow = new CreatePartitionsRequestData().setTimeoutMs(30_000);
        grow.topics().add(new CreatePartitionsRequestData.CreatePartitionsTopic().setName("alpha").setCount(12)
                .setAssignments(null));
        request("create_partitions_request", ApiKeys.CREATE_PARTITIONS, 3, grow);
        response("create_partitions_response", ApiKeys.CREATE_PARTITIONS, 3, new CreatePartitionsResponseData()
                .setResults(List.of(new CreatePartitionsResponseData.CreatePartitionsTopicResult().setName("alpha"))));
        request("describe_configs_request", ApiKeys.DESCRIBE_CONFIGS, 4, new DescribeConfigsRequestData()
                .setResources(List.of(new DescribeConfigsRequestData.DescribeConfigsResource()
                        .setResourceType((byte) 2).setResourceName("alpha").setConfigurationKeys(null))));
        response("describe_configs_response", ApiKeys.DESCRIBE_CONFIGS, 4, new DescribeConfigsResponseData()
                .setResults(List.of(new DescribeConfigsResponseData.DescribeConfigsResult().setResourceType((byte) 2)
                        .setResourceName("alpha").setConfigs(List.of(config("cleanup.policy", "compact", 1, false),
                                config("retention.ms", "604800000", 5, false), config("secret", "x", 1, true),
                                config("unset", null, 5, false))))));
    }

    private static DescribeConfigsResponseData.DescribeConfigsResourceResult config(
            String name, String value, int source, boolean sensitive) {
        return new DescribeConfigsResponseData.DescribeConfigsResourceResult().setName(name).setValue(value)
                .setConfigSource((byte) source).setIsSensitive(sensitive).setConfigType((byte) 2);
    }

    private static void changes() {
        var set = new IncrementalAlterConfigsRequestData.AlterableConfig().setName("retention.ms").setValue("5");
        var unset = new IncrementalAlterConfigsRequestData.AlterableConfig().setName("cleanup.policy")
                .setConfigOperation((byte) 1).setValue(null);
        var resource = new IncrementalAlterConfigsRequestData.AlterConfigsResource().setResourceType((byte) 2)
                .setResourceName("alpha");
        resource.configs().add(unset);
        resource.configs().add(set);
        var alter = new IncrementalAlterConfigsRequestData();
        alter.resources().add(resource);
        request("alter_configs_request", ApiKeys.INCREMENTAL_ALTER_CONFIGS, 1, alter);
        response("alter_configs_response", ApiKeys.INCREMENTAL_ALTER_CONFIGS, 1,
                new IncrementalAlterConfigsResponseData().setResponses(List.of(
                        new IncrementalAlterConfigsResponseData.AlterConfigsResourceResponse()
                                .setResourceType((byte) 2).setResourceName("alpha"))));
        request("delete_topics_request", ApiKeys.DELETE_TOPICS, 6, new DeleteTopicsRequestData().setTimeoutMs(30_000)
                .setTopics(List.of(new DeleteTopicsRequestData.DeleteTopicState().setName(null).setTopicId(ID_A))));
        var deleted = new DeleteTopicsResponseData.DeletableTopicResultCollection();
        deleted.add(new DeleteTopicsResponseData.DeletableTopicResult().setName("alpha").setTopicId(ID_A));
        response("delete_topics_response", ApiKeys.DELETE_TOPICS, 6,
                new DeleteTopicsResponseData().setResponses(deleted));
        request("create_acls_request", ApiKeys.CREATE_ACLS, 3, new CreateAclsRequestData().setCreations(List.of(
                new CreateAclsRequestData.AclCreation().setResourceType((byte) 2).setResourceName("alpha")
                        .setResourcePatternType((byte) 3).setPrincipal("User:*").setHost("*").setOperation((byte) 4)
                        .setPermissionType((byte) 2))));
        response("create_acls_response", ApiKeys.CREATE_ACLS, 3, new CreateAclsResponseData().setResults(List.of(
                new CreateAclsResponseData.AclCreationResult())));
        request("delete_acls_request", ApiKeys.DELETE_ACLS, 3, new DeleteAclsRequestData().setFilters(List.of(
                new DeleteAclsRequestData.DeleteAclsFilter().setResourceTypeFilter((byte) 2)
                        .setResourceNameFilter("alpha").setPatternTypeFilter((byte) 3).setPrincipalFilter("User:*")
                        .setHostFilter("*").setOperation((byte) 4).setPermissionType((byte) 2))));
        response("delete_acls_response", ApiKeys.DELETE_ACLS, 3, new DeleteAclsResponseData().setFilterResults(List.of(
                new DeleteAclsResponseData.DeleteAclsFilterResult().setMatchingAcls(List.of(
                        new DeleteAclsResponseData.DeleteAclsMatchingAcl().setResourceType((byte) 2)
                                .setResourceName("alpha").setPatternType((byte) 3).setPrincipal("User:*")
                                .setHost("*").setOperation((byte) 4).setPermissionType((byte) 2))))));
        for (byte kind = 2; kind <= 3; kind++) {
            String name = kind == 2 ? "describe_topic_acls" : "describe_group_acls";
            request(name + "_request", ApiKeys.DESCRIBE_ACLS, 3, new DescribeAclsRequestData()
                    .setResourceTypeFilter(kind).setResourceNameFilter(null).setPatternTypeFilter((byte) 1)
                    .setPrincipalFilter(null).setHostFilter(null).setOperation((byte) 1).setPermissionType((byte) 1));
            response(name + "_response", ApiKeys.DESCRIBE_ACLS, 3, new DescribeAclsResponseData().setResources(List.of(
                    new DescribeAclsResponseData.DescribeAclsResource().setResourceType(kind).setResourceName("al")
                            .setPatternType((byte) 4).setAcls(List.of(
                                    new DescribeAclsResponseData.AclDescription().setPrincipal("User:alice")
                                            .setHost("*").setOperation((byte) 3).setPermissionType((byte) 3))))));
        }
    }

    private static void principals() {
        request("describe_all_acls_request", ApiKeys.DESCRIBE_ACLS, 3, new DescribeAclsRequestData()
                .setResourceTypeFilter((byte) 1).setResourceNameFilter(null).setPatternTypeFilter((byte) 1)
                .setPrincipalFilter(null).setHostFilter(null).setOperation((byte) 1).setPermissionType((byte) 1));
        var alters = new DescribeAclsResponseData.AclDescription().setPrincipal("User:bob").setHost("10.0.0.1")
                .setOperation((byte) 7).setPermissionType((byte) 2);
        var writes = new DescribeAclsResponseData.AclDescription().setPrincipal("User:alice").setHost("*")
                .setOperation((byte) 4).setPermissionType((byte) 3);
        response("describe_all_acls_response", ApiKeys.DESCRIBE_ACLS, 3, new DescribeAclsResponseData().setResources(
                List.of(new DescribeAclsResponseData.DescribeAclsResource().setResourceType((byte) 5)
                                .setResourceName("txn-").setPatternType((byte) 4).setAcls(List.of(writes)),
                        new DescribeAclsResponseData.DescribeAclsResource().setResourceType((byte) 4)
                                .setResourceName("kafka-cluster").setPatternType((byte) 3)
                                .setAcls(List.of(alters)))));
        request("describe_quotas_request", ApiKeys.DESCRIBE_CLIENT_QUOTAS, 1,
                new DescribeClientQuotasRequestData().setComponents(List.of()).setStrict(false));
        var entity = List.of(
                new DescribeClientQuotasResponseData.EntityData().setEntityType("user").setEntityName("alice"),
                new DescribeClientQuotasResponseData.EntityData().setEntityType("client-id").setEntityName(null));
        var value = new DescribeClientQuotasResponseData.ValueData().setKey("producer_byte_rate").setValue(1024.5);
        response("describe_quotas_response", ApiKeys.DESCRIBE_CLIENT_QUOTAS, 1,
                new DescribeClientQuotasResponseData().setErrorMessage(null).setEntries(List.of(
                        new DescribeClientQuotasResponseData.EntryData().setEntity(entity).setValues(List.of(value)))));
        var set = new AlterClientQuotasRequestData.OpData().setKey("producer_byte_rate");
        var alice = new AlterClientQuotasRequestData.EntityData().setEntityType("user").setEntityName("alice");
        var anybody = new AlterClientQuotasRequestData.EntityData().setEntityType("user").setEntityName(null);
        request("alter_quotas_request", ApiKeys.ALTER_CLIENT_QUOTAS, 1, new AlterClientQuotasRequestData().setEntries(
                List.of(new AlterClientQuotasRequestData.EntryData().setEntity(List.of(alice))
                                .setOps(List.of(set.duplicate().setValue(1024.5))),
                        new AlterClientQuotasRequestData.EntryData().setEntity(List.of(anybody))
                                .setOps(List.of(set.duplicate().setValue(7))))));
        response("alter_quotas_response", ApiKeys.ALTER_CLIENT_QUOTAS, 1, new AlterClientQuotasResponseData().setEntries(
                List.of(new AlterClientQuotasResponseData.EntryData().setErrorCode((short) 42).setErrorMessage("too low")
                                .setEntity(List.of(new AlterClientQuotasResponseData.EntityData()
                                        .setEntityType("user").setEntityName(null))),
                        new AlterClientQuotasResponseData.EntryData().setErrorMessage(null)
                                .setEntity(List.of(new AlterClientQuotasResponseData.EntityData()
                                        .setEntityType("user").setEntityName("alice"))))));
        request("describe_scram_request", ApiKeys.DESCRIBE_USER_SCRAM_CREDENTIALS, 0,
                new DescribeUserScramCredentialsRequestData().setUsers(List.of()));
        var infos = List.of(
                new DescribeUserScramCredentialsResponseData.CredentialInfo().setMechanism((byte) 1)
                        .setIterations(4096),
                new DescribeUserScramCredentialsResponseData.CredentialInfo().setMechanism((byte) 2)
                        .setIterations(8192));
        response("describe_scram_response", ApiKeys.DESCRIBE_USER_SCRAM_CREDENTIALS, 0,
                new DescribeUserScramCredentialsResponseData().setErrorMessage(null).setResults(List.of(
                        new DescribeUserScramCredentialsResponseData.DescribeUserScramCredentialsResult()
                                .setUser("gone").setErrorCode((short) 91).setErrorMessage("no such user"),
                        new DescribeUserScramCredentialsResponseData.DescribeUserScramCredentialsResult()
                                .setUser("alice").setErrorMessage(null).setCredentialInfos(infos))));
    }

    private static void sasl() {
        response("sasl_handshake_response", ApiKeys.SASL_HANDSHAKE, 1,
                new SaslHandshakeResponseData().setErrorCode((short) 33).setMechanisms(List.of("PLAIN", "OAUTHBEARER")));
        response("sasl_authenticate_response", ApiKeys.SASL_AUTHENTICATE, 2, new SaslAuthenticateResponseData()
                .setErrorCode((short) 58).setErrorMessage("no").setAuthBytes(new byte[] {1, 2, 3})
                .setSessionLifetimeMs(3_600_000L));
    }

    private static void groups() {
        request("find_group_coordinators_request", ApiKeys.FIND_COORDINATOR, 6,
                new FindCoordinatorRequestData().setCoordinatorKeys(List.of("audit", "billing")).setKeyType((byte) 0));
        response("find_group_coordinators_response", ApiKeys.FIND_COORDINATOR, 6, new FindCoordinatorResponseData()
                .setCoordinators(List.of(coordinator("audit"), coordinator("billing"))));
        request("list_groups_request", ApiKeys.LIST_GROUPS, 5, new ListGroupsRequestData());
        response("list_groups_response", ApiKeys.LIST_GROUPS, 5, new ListGroupsResponseData().setGroups(List.of(
                listed("audit", "", "Empty", "Classic"), listed("billing", "consumer", "Stable", "Consumer"),
                listed("tasks", "share", "Stable", "Share"))));
        members();
        describedGroups();
        committedOffsets();
        request("offset_delete_request", ApiKeys.OFFSET_DELETE, 0, offsetDelete());
        var deleted = new OffsetDeleteResponseData.OffsetDeleteResponseTopic().setName("alpha");
        deleted.partitions().add(new OffsetDeleteResponseData.OffsetDeleteResponsePartition().setPartitionIndex(0));
        deleted.partitions().add(new OffsetDeleteResponseData.OffsetDeleteResponsePartition().setPartitionIndex(1)
                .setErrorCode((short) 86));
        var response = new OffsetDeleteResponseData();
        response.topics().add(deleted);
        response("offset_delete_response", ApiKeys.OFFSET_DELETE, 0, response);
    }

    private static ListGroupsResponseData.ListedGroup listed(String id, String protocol, String state, String type) {
        return new ListGroupsResponseData.ListedGroup().setGroupId(id).setProtocolType(protocol).setGroupState(state)
                .setGroupType(type);
    }

    private static void members() {
        request("find_fleet_coordinator_request", ApiKeys.FIND_COORDINATOR, 6,
                new FindCoordinatorRequestData().setCoordinatorKeys(List.of("fleet")).setKeyType((byte) 0));
        response("find_fleet_coordinator_response", ApiKeys.FIND_COORDINATOR, 6,
                new FindCoordinatorResponseData().setCoordinators(List.of(coordinator("fleet"))));
        var protocols = new JoinGroupRequestData.JoinGroupRequestProtocolCollection();
        protocols.add(new JoinGroupRequestData.JoinGroupRequestProtocol().setName("shards-1").setMetadata(new byte[] {1, 2}));
        request("join_group_request", ApiKeys.JOIN_GROUP, 9, new JoinGroupRequestData().setGroupId("fleet")
                .setSessionTimeoutMs(10_000).setRebalanceTimeoutMs(20_000).setMemberId("one").setGroupInstanceId("1")
                .setProtocolType("kmirror").setProtocols(protocols));
        response("join_group_response", ApiKeys.JOIN_GROUP, 9, new JoinGroupResponseData().setGenerationId(7)
                .setProtocolType("kmirror").setProtocolName("shards-1").setLeader("one").setMemberId("one")
                .setMembers(List.of(
                        new JoinGroupResponseData.JoinGroupResponseMember().setMemberId("one").setGroupInstanceId("1")
                                .setMetadata(new byte[] {1, 2}),
                        new JoinGroupResponseData.JoinGroupResponseMember().setMemberId("two").setMetadata(new byte[] {3}))));
        response("join_group_refused_response", ApiKeys.JOIN_GROUP, 9, new JoinGroupResponseData().setErrorCode((short) 79)
                .setProtocolName(null).setMemberId("three"));
        request("sync_group_request", ApiKeys.SYNC_GROUP, 5, new SyncGroupRequestData().setGroupId("fleet")
                .setGenerationId(7).setMemberId("one").setGroupInstanceId("1").setProtocolType("kmirror")
                .setProtocolName("shards-1").setAssignments(List.of(
                        new SyncGroupRequestData.SyncGroupRequestAssignment().setMemberId("one").setAssignment(new byte[] {4}),
                        new SyncGroupRequestData.SyncGroupRequestAssignment().setMemberId("two").setAssignment(new byte[0]))));
        response("sync_group_response", ApiKeys.SYNC_GROUP, 5, new SyncGroupResponseData().setProtocolType("kmirror")
                .setProtocolName("shards-1").setAssignment(new byte[] {4}));
        request("heartbeat_request", ApiKeys.HEARTBEAT, 4, new HeartbeatRequestData().setGroupId("fleet").setGenerationId(7)
                .setMemberId("one").setGroupInstanceId("1"));
        response("heartbeat_response", ApiKeys.HEARTBEAT, 4, new HeartbeatResponseData().setErrorCode((short) 27));
        request("leave_group_request", ApiKeys.LEAVE_GROUP, 5, new LeaveGroupRequestData().setGroupId("fleet").setMembers(
                List.of(new LeaveGroupRequestData.MemberIdentity().setMemberId("one").setGroupInstanceId("1"))));
        response("leave_group_response", ApiKeys.LEAVE_GROUP, 5, new LeaveGroupResponseData().setMembers(
                List.of(new LeaveGroupResponseData.MemberResponse().setMemberId("one").setGroupInstanceId("1"))));
    }

    private static void describedGroups() {
        request("describe_groups_request", ApiKeys.DESCRIBE_GROUPS, 6,
                new DescribeGroupsRequestData().setGroups(List.of("audit", "billing")));
        var member = new DescribeGroupsResponseData.DescribedGroupMember().setMemberId("one").setGroupInstanceId("1")
                .setClientId("client").setClientHost("/127.0.0.1").setMemberMetadata(new byte[] {1, 2})
                .setMemberAssignment(new byte[] {3});
        response("describe_groups_response", ApiKeys.DESCRIBE_GROUPS, 6, new DescribeGroupsResponseData()
                .setGroups(List.of(
                        new DescribeGroupsResponseData.DescribedGroup().setGroupId("audit").setGroupState("Stable")
                                .setProtocolType("consumer").setProtocolData("range").setMembers(List.of(member)),
                        new DescribeGroupsResponseData.DescribedGroup().setGroupId("billing").setGroupState("Dead")
                                .setErrorCode((short) 69).setErrorMessage("not a classic group"))));
        request("consumer_group_describe_request", ApiKeys.CONSUMER_GROUP_DESCRIBE, 1,
                new ConsumerGroupDescribeRequestData().setGroupIds(List.of("billing")));
        var assignment = new ConsumerGroupDescribeResponseData.Assignment().setTopicPartitions(List.of(
                new ConsumerGroupDescribeResponseData.TopicPartitions().setTopicId(ID_A).setTopicName("alpha")
                        .setPartitions(List.of(0, 2))));
        var consumer = new ConsumerGroupDescribeResponseData.Member().setMemberId("two").setMemberEpoch(3)
                .setClientId("client").setClientHost("/127.0.0.1").setSubscribedTopicNames(List.of("alpha", "beta"))
                .setAssignment(assignment).setTargetAssignment(assignment).setMemberType((byte) 1);
        response("consumer_group_describe_response", ApiKeys.CONSUMER_GROUP_DESCRIBE, 1,
                new ConsumerGroupDescribeResponseData().setGroups(List.of(
                        new ConsumerGroupDescribeResponseData.DescribedGroup().setGroupId("billing")
                                .setGroupState("Reconciling").setGroupEpoch(3).setAssignmentEpoch(2)
                                .setAssignorName("uniform").setMembers(List.of(consumer)))));
    }

    private static void committedOffsets() {
        request("offset_fetch_request", ApiKeys.OFFSET_FETCH, 9, new OffsetFetchRequestData().setRequireStable(true)
                .setGroups(List.of(offsetFetch("audit"), offsetFetch("billing"))));
        response("offset_fetch_response", ApiKeys.OFFSET_FETCH, 9, new OffsetFetchResponseData().setGroups(List.of(
                new OffsetFetchResponseData.OffsetFetchResponseGroup().setGroupId("audit").setTopics(List.of(
                        new OffsetFetchResponseData.OffsetFetchResponseTopics().setName("alpha").setPartitions(List.of(
                                new OffsetFetchResponseData.OffsetFetchResponsePartitions().setPartitionIndex(0)
                                        .setCommittedOffset(1L << 40).setCommittedLeaderEpoch(5).setMetadata("note"),
                                new OffsetFetchResponseData.OffsetFetchResponsePartitions().setPartitionIndex(1)
                                        .setCommittedOffset(-1).setMetadata("").setErrorCode((short) 88),
                                new OffsetFetchResponseData.OffsetFetchResponsePartitions().setPartitionIndex(2)
                                        .setCommittedOffset(-1).setMetadata("beside no offset"))))),
                new OffsetFetchResponseData.OffsetFetchResponseGroup().setGroupId("billing")
                        .setErrorCode((short) 30))));
        response("offset_fetch_single_response", ApiKeys.OFFSET_FETCH, 7, new OffsetFetchResponseData().setTopics(
                List.of(new OffsetFetchResponseData.OffsetFetchResponseTopic().setName("alpha").setPartitions(List.of(
                        new OffsetFetchResponseData.OffsetFetchResponsePartition().setPartitionIndex(0)
                                .setCommittedOffset(1L << 40).setCommittedLeaderEpoch(5).setMetadata(null))))));
        request("offset_commit_request", ApiKeys.OFFSET_COMMIT, 9, new OffsetCommitRequestData().setGroupId("audit")
                .setTopics(List.of(new OffsetCommitRequestData.OffsetCommitRequestTopic().setName("alpha")
                        .setPartitions(List.of(offsetCommit(0, 1L << 40, 5, "note"), offsetCommit(1, 7, -1, ""))))));
        response("offset_commit_response", ApiKeys.OFFSET_COMMIT, 9, new OffsetCommitResponseData().setTopics(List.of(
                new OffsetCommitResponseData.OffsetCommitResponseTopic().setName("alpha").setPartitions(List.of(
                        new OffsetCommitResponseData.OffsetCommitResponsePartition().setPartitionIndex(0),
                        new OffsetCommitResponseData.OffsetCommitResponsePartition().setPartitionIndex(1)
                                .setErrorCode((short) 25))))));
    }

    private static OffsetFetchRequestData.OffsetFetchRequestGroup offsetFetch(String group) {
        return new OffsetFetchRequestData.OffsetFetchRequestGroup().setGroupId(group).setTopics(null);
    }

    private static OffsetCommitRequestData.OffsetCommitRequestPartition offsetCommit(
            int partition, long offset, int epoch, String metadata) {
        return new OffsetCommitRequestData.OffsetCommitRequestPartition().setPartitionIndex(partition)
                .setCommittedOffset(offset).setCommittedLeaderEpoch(epoch).setCommittedMetadata(metadata);
    }

    private static OffsetDeleteRequestData offsetDelete() {
        var topic = new OffsetDeleteRequestData.OffsetDeleteRequestTopic().setName("alpha").setPartitions(List.of(
                new OffsetDeleteRequestData.OffsetDeleteRequestPartition().setPartitionIndex(0),
                new OffsetDeleteRequestData.OffsetDeleteRequestPartition().setPartitionIndex(1)));
        var data = new OffsetDeleteRequestData().setGroupId("audit");
        data.topics().add(topic);
        return data;
    }

    // --- Batches.

    private static final long TIME = 1_700_000_000_000L;
    private static final long APPEND_TIME = TIME + 9_999;

    private static byte[] text(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static List<SimpleRecord> records() {
        Header[] headers = {new RecordHeader("h", text("1")), new RecordHeader("h", text("2")),
            new RecordHeader("null", (byte[]) null), new RecordHeader("empty", new byte[0])};
        return List.of(
                new SimpleRecord(TIME, text("key"), text("kmirror ".repeat(40))),
                new SimpleRecord(TIME + 300, null, text("no key")),
                new SimpleRecord(TIME - 5, text("tombstone"), null, headers),
                new SimpleRecord(TIME + 1, new byte[0], new byte[0]));
    }

    /** In a log at offset 100, from a producer that is not idempotent. */
    private static MemoryRecords plain(Compression codec) {
        return build(codec, TimestampType.CREATE_TIME, 100, -1, -1, -1, false, 5, records());
    }

    /** As kmirror sends it. */
    private static MemoryRecords stamped(Compression codec) {
        return build(codec, TimestampType.CREATE_TIME, 0, 4000, 7, 2_147_483_646, false, -1, records());
    }

    private static MemoryRecords build(Compression codec, TimestampType type, long offset, long producer, int epoch,
            int sequence, boolean transactional, int leaderEpoch, List<SimpleRecord> records) {
        var builder = MemoryRecords.builder(ByteBuffer.allocate(2_000), RecordBatch.CURRENT_MAGIC_VALUE, codec, type,
                offset, type == TimestampType.LOG_APPEND_TIME ? APPEND_TIME : RecordBatch.NO_TIMESTAMP, producer,
                (short) epoch, sequence, transactional, leaderEpoch);
        records.forEach(builder::append);
        return builder.build();
    }

    private static MemoryRecords marker(ControlRecordType type) {
        return MemoryRecords.withEndTransactionMarker(104, TIME + 400, 5, 123, (short) 1,
                new EndTransactionMarker(type, 3));
    }

    private static void batches() {
        Map<String, Compression> codecs = new java.util.LinkedHashMap<>();
        codecs.put("none", Compression.NONE);
        codecs.put("gzip", Compression.gzip().build());
        codecs.put("snappy", Compression.snappy().build());
        codecs.put("lz4", Compression.lz4().build());
        codecs.put("zstd", Compression.zstd().build());
        codecs.forEach((name, codec) -> {
            batch("plain_" + name, plain(codec));
            batch("transactional_" + name, build(codec, TimestampType.CREATE_TIME, 100, 123, 1, 10, true, 5,
                    records()));
            batch("stamped_" + name, stamped(codec));
        });
        batch("append_time", build(Compression.NONE, TimestampType.LOG_APPEND_TIME, 100, -1, -1, -1, false, 5,
                records()));
        batch("append_time_stamped", build(Compression.NONE, TimestampType.CREATE_TIME, 0, 4000, 7, 0, false, -1,
                atOneTime()));
        batch("holes", holes());
        batch("holes_stamped", build(Compression.NONE, TimestampType.CREATE_TIME, 0, 4000, 7, 0, false, -1,
                List.of(records().get(0), records().get(2))));
        batch("delete_horizon", deleteHorizon());
        batch("empty", empty());
        batch("commit", marker(ControlRecordType.COMMIT));
        batch("abort", marker(ControlRecordType.ABORT));
        batch("leader_change", MemoryRecords.withLeaderChangeMessage(104, TIME, 5, ByteBuffer.allocate(200),
                new LeaderChangeMessage().setLeaderId(1)));
    }

    private static List<SimpleRecord> atOneTime() {
        List<SimpleRecord> out = new ArrayList<>();
        records().forEach(r -> out.add(new SimpleRecord(APPEND_TIME, r.key(), r.value(), r.headers())));
        return out;
    }

    private static MemoryRecords holes() {
        var builder = MemoryRecords.builder(ByteBuffer.allocate(2_000), RecordBatch.CURRENT_MAGIC_VALUE,
                Compression.NONE, TimestampType.CREATE_TIME, 100, RecordBatch.NO_TIMESTAMP, -1, (short) -1, -1, false,
                5);
        builder.appendWithOffset(101, records().get(0));
        builder.appendWithOffset(103, records().get(2));
        builder.overrideLastOffset(105);
        return builder.build();
    }

    private static MemoryRecords deleteHorizon() {
        var builder = new MemoryRecordsBuilder(new ByteBufferOutputStream(ByteBuffer.allocate(2_000)),
                RecordBatch.CURRENT_MAGIC_VALUE, Compression.NONE, TimestampType.CREATE_TIME, 100,
                RecordBatch.NO_TIMESTAMP, -1, (short) -1, -1, false, false, 5, 2_000, APPEND_TIME);
        records().forEach(builder::append);
        return builder.build();
    }

    private static MemoryRecords empty() {
        ByteBuffer buffer = ByteBuffer.allocate(100);
        DefaultRecordBatch.writeEmptyHeader(buffer, RecordBatch.CURRENT_MAGIC_VALUE, 123, (short) 1, 10, 100, 105, 5,
                TimestampType.CREATE_TIME, TIME, true, false);
        return MemoryRecords.readableRecords(buffer.flip());
    }

    private static void batch(String name, MemoryRecords records) {
        OUT.println("#");
        for (MutableRecordBatch batch : records.batches()) {
            OUT.println("# " + batch + ", base timestamp " + ((DefaultRecordBatch) batch).baseTimestamp()
                    + ", max timestamp " + batch.maxTimestamp());
            for (Record record : batch) {
                OUT.println("#   " + record + " " + List.of(record.headers()));
            }
        }
        line(name, records.buffer());
    }
}
