/* y = [a | b]: columns side by side. Backward: da and db are the columns of dy. in: a [N,p], b [N,q]; out: y [N,p+q] */
#pragma once
enum { CONCAT_A, CONCAT_B };
