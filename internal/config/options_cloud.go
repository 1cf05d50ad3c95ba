package config

import "time"

// CloudOptions are for backups and WAL in object stores.
type CloudOptions struct {
	CloudStagingDirectory        string        `ini:"cloud_staging_directory" type:"path" default:"/tmp/barman/cloud-staging" scope:"GSM" doc:"Directory where a postgres backup waits for its upload."`
	CloudStagingMaxSize          Size          `ini:"cloud_staging_max_size" type:"size" default:"30Gi" scope:"GSM" doc:"Bound of that directory's size."`
	CloudUploadMaxArchiveSize    Size          `ini:"cloud_upload_max_archive_size" type:"size" default:"100Gi" scope:"GSM" doc:"Size from which on another tar object is begun. Barman reads it in a server's section only."`
	CloudUploadMinChunkSize      Size          `ini:"cloud_upload_min_chunk_size" type:"size" scope:"GSM" doc:"Smallest part of a multipart upload. Barman reads it in a server's section only."`
	CloudWALArchiveParallel      int           `ini:"cloud_wal_archive_parallel" type:"int" default:"0" min:"0" scope:"GSM" doc:"WAL files that are uploaded at the same time."`
	CloudWALRestoreParallel      int           `ini:"cloud_wal_restore_parallel" type:"int" default:"0" min:"0" scope:"GSM" doc:"WAL files that are fetched at the same time."`
	CloudDeleteBatchSize         *int          `ini:"cloud_delete_batch_size" type:"int" min:"1" scope:"GSM" doc:"Objects that one request deletes, as far as the store allows."`
	AWSProfile                   string        `ini:"aws_profile" type:"string" scope:"GSM" doc:"Profile of the AWS credentials."`
	AWSRegion                    string        `ini:"aws_region" type:"string" scope:"GSM" doc:"AWS region."`
	AWSReadTimeout               time.Duration `ini:"aws_read_timeout" type:"seconds" min:"1" scope:"GSM" doc:"How long to wait for an answer of AWS; the client's 60 seconds unless set."`
	AWSEncryption                string        `ini:"aws_encryption" type:"enum" values:"AES256,aws:kms" scope:"GSM" strict:"true" doc:"Encryption by S3 itself."`
	AWSSSEKMSKeyID               string        `ini:"aws_sse_kms_key_id" type:"string" scope:"GSM" doc:"Key of that encryption; needs aws:kms."`
	AWSSSECustomerKey            Secret        `json:"-" ini:"aws_sse_customer_key" type:"secret URI" scope:"GSM" strict:"true" doc:"File with a key of your own for S3's encryption. Excludes the two options above."`
	AWSCheckObjectLock           bool          `ini:"aws_check_object_lock" type:"bool" default:"off" scope:"GSM" doc:"Look whether objects are locked before deleting them."`
	HoldfastEndpointURL          string        `ini:"holdfast_endpoint_url" type:"endpoint" scope:"GSM" strict:"true" doc:"Address of a store that is not the provider's own: http://HOST:PORT or https://HOST:PORT, with neither user nor query. Where a server has stores of several kinds, it is for those that speak S3."`
	HoldfastS3AddressingStyle    string        `ini:"holdfast_s3_addressing_style" type:"enum" values:"auto,path,virtual" default:"auto" scope:"GSM" strict:"true" doc:"Where S3 requests name the bucket: in the path or in the host's name (virtual). auto is path for a store with an endpoint URL of its own, else virtual."`
	HoldfastTags                 Tags          `ini:"holdfast_tags" type:"tags" scope:"GSM" strict:"true" doc:"Tags of every object that is stored, as NAME=VALUE pairs separated by commas: tags in S3 and Azure, custom metadata in Google Cloud Storage. At most ten."`
	HoldfastAzureEncryptionScope string        `ini:"holdfast_azure_encryption_scope" type:"azure scope" scope:"GSM" strict:"true" doc:"Encryption scope of the objects that are stored in Azure."`
	HoldfastGCSKMSKey            string        `ini:"holdfast_gcs_kms_key" type:"google key" scope:"GSM" strict:"true" doc:"Cloud KMS key that Google Cloud Storage encrypts the stored objects with; the bucket's own unless set."`
	HoldfastCloudVolumeSize      Size          `ini:"holdfast_cloud_volume_size" type:"size" computed:"the larger of 256Mi and a 5,000th of the cluster" scope:"GSM" strict:"true" doc:"Size that the tar objects of a local-to-cloud backup have at most, 8Mi to 1Ti, unless a single file is larger. Never more than cloud_upload_max_archive_size."`
	HoldfastCloudCompression     string        `ini:"holdfast_cloud_compression" type:"enum" values:"none,gzip,bzip2,lz4,zstd,snappy" default:"zstd" scope:"GSM" strict:"true" doc:"Compression of those objects. Barman's tools read all of them but snappy."`
	HoldfastCloudReuse           string        `ini:"holdfast_cloud_reuse" type:"enum" values:"off,checksum,mtime" default:"checksum" scope:"GSM" strict:"true" doc:"What a local-to-cloud backup takes from the previous one inside the store: nothing, what has the same checksum when it is read, or files that are unchanged by their times, which are not even read."`
	HoldfastBadPages             string        `ini:"holdfast_bad_pages" type:"enum" values:"warn,fail" default:"warn" scope:"GSM" strict:"true" doc:"What pages with a wrong checksum do to a local-to-cloud backup, which checks them all: it says so, or it fails."`
	HoldfastReplicas             []string      `ini:"holdfast_replicas" type:"urls" scope:"SM" strict:"true" doc:"URLs, separated by commas, of further object stores that every local-to-cloud backup is sent to, beside basebackups_directory. With several stores that speak S3, all have the same holdfast_endpoint_url."`
	HoldfastReplicaQuorum        int           `ini:"holdfast_replica_quorum" type:"int" default:"1" min:"1" scope:"SM" strict:"true" doc:"How many of the destinations, the main one included, have to have a backup before it is DONE. The others are caught up later."`
	AzureCredential              string        `ini:"azure_credential" type:"enum" values:"azure-cli,managed-identity,default" scope:"GSM" strict:"true" computed:"the first of AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_KEY that is set, else default" doc:"Where Azure credentials come from."`
	AzureResourceGroup           string        `ini:"azure_resource_group" type:"string" scope:"GSM" doc:"Azure resource group."`
	AzureSubscriptionID          string        `ini:"azure_subscription_id" type:"string" scope:"GSM" doc:"Azure subscription. Required for snapshots on Azure."`
	GCPProject                   string        `ini:"gcp_project" type:"string" scope:"GSM" doc:"Google Cloud project. Required for snapshots on Google Cloud."`
	GCPZone                      string        `ini:"gcp_zone" type:"string" scope:"SM" doc:"Google Cloud zone."`
}

// SnapshotOptions are for backups that are snapshots of disks.
type SnapshotOptions struct {
	SnapshotProvider             string        `ini:"snapshot_provider" type:"enum" values:"aws,azure,gcp,btrfs,zfs,lvm,command" scope:"GSM" strict:"true" doc:"Who makes the snapshots: a cloud, a file system, or commands of yours."`
	SnapshotInstance             string        `ini:"snapshot_instance" type:"string" scope:"SM" backup:"refused" methods:"rsync,postgres,local-rsync" doc:"Instance that the disks are attached to; localhost is this host, with btrfs, zfs, lvm and command, and any other name that of ssh_command."`
	SnapshotDisks                []string      `ini:"snapshot_disks" type:"list" scope:"SM" strict:"true" backup:"refused" methods:"rsync,postgres,local-rsync" doc:"Disks that together hold the cluster: directories of subvolumes (btrfs), datasets (zfs), VG/LV (lvm), directories (command)."`
	SnapshotGCPProject           string        `ini:"snapshot_gcp_project" type:"string" scope:"GSM" backup:"refused" instead:"gcp_project" doc:"Google Cloud project."`
	SnapshotZone                 string        `ini:"snapshot_zone" type:"string" scope:"SM" backup:"refused" instead:"gcp_zone" doc:"Google Cloud zone."`
	AWSAwaitSnapshotsTimeout     time.Duration `ini:"aws_await_snapshots_timeout" type:"seconds" default:"3600" min:"1" scope:"GSM" doc:"How long to wait until AWS has finished the snapshots."`
	AWSSnapshotLockMode          string        `ini:"aws_snapshot_lock_mode" type:"enum" values:"governance,compliance" scope:"GSM" strict:"true" doc:"Lock AWS snapshots against deletion."`
	AWSSnapshotLockDuration      *int          `ini:"aws_snapshot_lock_duration" type:"int" min:"1" max:"36500" scope:"GSM" strict:"true" doc:"Days that the lock lasts."`
	AWSSnapshotLockCoolOffPeriod *int          `ini:"aws_snapshot_lock_cool_off_period" type:"int" min:"1" max:"72" scope:"GSM" strict:"true" doc:"Hours during which a compliance lock can still be changed."`
	AWSSnapshotLockExpiration    string        `ini:"aws_snapshot_lock_expiration_date" type:"timestamp" scope:"GSM" strict:"true" doc:"When the lock ends: YYYY-MM-DDTHH:MM:SS.fffZ."`

	HoldfastSnapshotHold          string        `ini:"holdfast_snapshot_hold" type:"enum" values:"cut,completed" default:"cut" scope:"GSM" strict:"true" doc:"How long PostgreSQL stays in backup mode: until the content of all snapshots is fixed, or until they are complete."`
	HoldfastSnapshotTimeout       time.Duration `ini:"holdfast_snapshot_timeout" type:"duration" default:"1h" scope:"GSM" strict:"true" doc:"How long to wait until the snapshots are complete."`
	HoldfastSnapshotMultiVolume   string        `ini:"holdfast_snapshot_multi_volume" type:"enum" values:"auto,off" default:"auto" scope:"GSM" strict:"true" doc:"Whether AWS cuts all volumes at the same moment; auto is one by one where that is not allowed or not possible."`
	HoldfastSnapshotEndpoint      string        `ini:"holdfast_snapshot_endpoint" type:"private endpoint" scope:"GSM" strict:"true" doc:"URL of the API that makes snapshots, for clouds of one's own: that of EC2 (aws), of Compute Engine (gcp), or of the Resource Manager (azure)."`
	HoldfastSnapshotDirectory     string        `ini:"holdfast_snapshot_directory" type:"string" default:"../.holdfast-snapshots" scope:"GSM" doc:"Where btrfs keeps the snapshots of a subvolume: a directory on its file system, relative to the subvolume unless absolute."`
	HoldfastSnapshotPrefix        string        `ini:"holdfast_snapshot_prefix" type:"shell" scope:"GSM" doc:"Words before the commands of btrfs, zfs and lvm, such as sudo -n."`
	HoldfastSnapshotCreateCommand string        `ini:"holdfast_snapshot_create_command" type:"shell" scope:"GSM" doc:"Command that makes a snapshot, for snapshot_provider = command."`
	HoldfastSnapshotListCommand   string        `ini:"holdfast_snapshot_list_command" type:"shell" scope:"GSM" doc:"Command that lists snapshots, for snapshot_provider = command."`
	HoldfastSnapshotDeleteCommand string        `ini:"holdfast_snapshot_delete_command" type:"shell" scope:"GSM" doc:"Command that deletes a snapshot, for snapshot_provider = command."`
}
