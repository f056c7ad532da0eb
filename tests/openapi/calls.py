"""Calls the server with the Python client that a generator has made of its document.

    calls.py MODULES PUBLIC INTERNAL PROJECT TOKEN      MODULES is the directory in which the client `made` is
"""

import sys
from concurrent.futures import ThreadPoolExecutor

modules, public, internal, PROJECT, TOKEN = sys.argv[1:]
sys.path.insert(0, modules)

from made import AuthenticatedClient
from made.api.job import (
    batch_delete_app_sub_jobs,
    count_image_sub_jobs,
    count_sub_jobs,
    list_image_jobs,
    list_image_sub_jobs,
    list_sub_jobs,
    show_image_job,
    show_job,
    show_job_detail,
)
from made.api.operation import report_sub_jobs
from made.api.own import get_summary, wait_for_count
from made.models import (
    Count,
    CountSubJobsStatus,
    Error,
    ImageJobList,
    ImageJobType,
    ImageSubJobList,
    Job,
    JobStatus,
    JobType,
    Status,
    SubJob,
    SubJobIds,
    SubJobList,
    Summary,
    Waited,
)

JOB = "python-job"


def call(operation, *path, token=TOKEN, project=PROJECT, address=public, **inputs):
    client = AuthenticatedClient(f"http://{address}", token=token, prefix="", auth_header_name="X-Auth-Token", timeout=30)
    return operation.sync_detailed(project, *path, client=client, **inputs)


def parsed(kind, operation, *path, **inputs):
    """The answer of a call, which must be of this class."""
    answer = call(operation, *path, **inputs)
    assert answer.status_code == 200 and isinstance(answer.parsed, kind), answer
    return answer.parsed


def check_error(status, code, operation, *path, **inputs):
    answer = call(operation, *path, **inputs)
    assert answer.status_code == status and isinstance(answer.parsed, Error), answer
    assert answer.parsed.error_code == code and answer.parsed.error_msg, answer


def count(**filters):
    return parsed(Count, count_sub_jobs, **filters).count


def report(version, statuses):
    records = [
        SubJob(id=f"py-{at}", job_id=JOB, job_type=JobType.ADDED_1, status=status, version=version)
        for at, status in enumerate(statuses)
    ]
    answer = call(report_sub_jobs, address=internal, body=records)
    assert answer.status_code == 200, answer
    return answer.parsed


def check_counts():
    for filters in [
        {"status": CountSubJobsStatus.RUNNING},
        {"status": CountSubJobsStatus("")},
        {"job_type": ",".join([JobType.CREATE_SERVER.value, JobType.ADDED_1.value])},
        {"job_type": ""},
    ]:
        count(**filters)
    assert count() > count(job_type=JobType.ADDED_1) > 0


def check_lists():
    page = parsed(SubJobList, list_sub_jobs, job_type=JobType.ADDED_1, offset=1, limit=2)
    assert page.count == count(job_type=JobType.ADDED_1), page
    assert [item.job_type for item in page.items] == [JobType.ADDED_1] * 2, page
    images = parsed(ImageSubJobList, list_image_sub_jobs, job_type=ImageJobType.BUILD_IMAGE, limit=100)
    assert len(images.items) == images.count > 0, images
    assert call(count_image_sub_jobs, job_type=ImageJobType.BUILD_IMAGE).parsed.count == images.count
    assert call(count_image_sub_jobs).parsed.count == call(list_image_sub_jobs, job_type="").parsed.count
    jobs = parsed(ImageJobList, list_image_jobs, job_type=ImageJobType.BUILD_IMAGE)
    assert call(show_image_job, jobs.items[0].id).parsed.sub_jobs_total == jobs.items[0].sub_jobs_total, jobs


def check_a_job():
    assert report(1, [Status.SUCCESS, Status.FAILED, Status.RUNNING]).created == 3
    job = parsed(Job, show_job_detail, JOB)
    assert job.status == JobStatus.RUNNING and [item.id for item in job.sub_jobs] == ["py-0", "py-1", "py-2"], job
    assert call(show_job, JOB).parsed.job.job_status == 2
    summary = parsed(Summary, get_summary, job_id=JOB)
    assert summary.total == 3 and summary.by_status["FAILED"] == 1, summary
    assert summary.by_type["ADDED_1"]["RUNNING"] == 1, summary
    # The demo goes on, so a summary's tag may change at any time; that of the job's count is its number.
    assert call(count_sub_jobs, job_id=JOB, if_none_match='"3"').status_code == 304
    assert call(get_summary, job_id=JOB, if_none_match="*").status_code == 304

    with ThreadPoolExecutor() as executor:
        ended = executor.submit(parsed, Waited, wait_for_count, job_id=JOB, status="RUNNING", until="eq:0", timeout=20)
        check_error(400, "WKS.00211102", batch_delete_app_sub_jobs, body=SubJobIds(items=["py-0", "py-2"]))
        assert count(job_id=JOB) == 3
        assert report(2, [Status.SUCCESS] * 3).updated == 3
        ended = ended.result()
    assert ended.satisfied and ended.count == 0 and ended.revision > summary.revision, ended
    ids = SubJobIds(items=["py-0", "py-1", "py-2", "unknown"])
    assert call(batch_delete_app_sub_jobs, body=ids).status_code == 200
    assert count(job_id=JOB) == 0
    late = parsed(Waited, wait_for_count, job_id=JOB, until="ge:1", timeout=1)
    assert not late.satisfied and late.count == 0, late
    check_error(404, "WKS.00211902", show_job_detail, JOB)


check_counts()
check_lists()
check_a_job()
check_error(400, "WKS.00211102", count_sub_jobs, job_type="NO_SUCH_TYPE")
check_error(400, "WKS.00211102", list_sub_jobs, job_type="NO_SUCH_TYPE")
check_error(400, "WKS.00211102", wait_for_count, until="about:1")
check_error(401, "WKS.00211302", get_summary, token="unknown")
check_error(404, "WKS.00211902", count_sub_jobs, project="nowhere")
print("the Python client has called the server")
