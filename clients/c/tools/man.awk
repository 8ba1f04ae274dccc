# man.awk -- makes one manual page of section 3 from each comment `/** name - summary ... */` and the declaration below it
# in xtrace.h.  awk -v dir=OUT -v version=V -f man.awk xtrace.h
# A line "Returns:", "Errors:" or "Thread-safety:" begins a section; other lines are the description. A comment that is
# followed by several declarations documents them all; each gets a page. `/** below - ...` says what holds for every page up
# to the next line of dashes. An _init_sized function is shown with the macro that calls it.

function escape(s) { gsub(/\\/, "\\e", s); gsub(/-/, "\\-", s); if (s ~ /^[.']/) s = "\\&" s; return s }

# Prints lines; one that begins a section begins one of the page.
function body(text, n, file,    i, section) {
    for (i = 1; i <= n; i++) {
        if (match(text[i], /^(Returns|Errors|Thread-safety): */)) {
            section = substr(text[i], 1, index(text[i], ":") - 1)
            print ".SH " (section == "Returns" ? "RETURN VALUE" : section == "Errors" ? "ERRORS" : "THREAD SAFETY") > file
            print escape(substr(text[i], RLENGTH + 1)) > file
        } else print escape(text[i]) > file
    }
}

function page(fn,    file, i) {
    file = dir "/" fn ".3"
    print ".TH " toupper(fn) " 3 \"\" \"libxtrace " version "\" \"xtrace\"" > file
    print ".SH NAME\n" fn " \\- " escape(summary) > file
    print ".SH SYNOPSIS\n.nf\n.B #include <xtrace.h>\n" > file
    for (i = 1; i <= declarations; i++) print escape(declaration[i]) > file
    print ".fi\n.PP\nCompile and link with \\fI$(pkg\\-config \\-\\-cflags \\-\\-libs xtrace)\\fP." > file
    print ".SH DESCRIPTION" > file
    if (lines == 0 && commons == 0 && fn !~ /_init(_sized)?$/) print escape(toupper(substr(summary, 1, 1)) substr(summary, 2)) "." > file
    body(line, lines, file)
    body(common, commons, file)
    if (fn ~ /_init(_sized)?$/) {
        print "Sets every member of the structure to what it means when the caller says nothing (the header names the defaults)," > file
        print "and its size. The macro passes the size that the caller was compiled with. NULL is ignored." > file
        print ".SH THREAD SAFETY\nsafe." > file
    }
    print ".SH SEE ALSO\nThe header\n.I xtrace.h\nstates the conventions that hold for all functions." > file
    close(file)
}

function flush_pages(    i) {
    for (i = 1; i <= declarations; i++) if (names[i] != "") page(names[i])
    documented = declarations = lines = 0
}

/^\/\* ----/ { flush_pages(); commons = 0 }

/^\/\*\* / {
    flush_pages()
    in_common = $2 == "below"
    if (in_common) { in_comment = 1; commons = 0; next }
    text = substr($0, 5); ended = sub(/ *\*\/ *$/, "", text)
    summary = text; sub(/^[a-z0-9_]+ - /, "", summary)
    documented = 1; in_comment = !ended; lines = 0
    next
}
in_comment {
    text = $0; ended = sub(/ *\*\/ *$/, "", text)
    sub(/^ \* ?/, "", text)
    if (text != "" && in_common) common[++commons] = text
    else if (text != "") line[++lines] = text
    if (ended) in_comment = in_common = 0
    next
}
documented && /^XTRACE_API / { joined = "" }
documented && (/^XTRACE_API / || joined != "") {
    joined = joined (joined == "" ? "" : "\n") $0
    if ($0 ~ /; *$/) {
        text = joined; joined = ""
        sub(/^XTRACE_API /, "", text); gsub(/ XTRACE_MUST_CHECK/, "", text)
        declaration[++declarations] = text
        match(text, /xtrace_[a-z0-9_]+\(/)
        names[declarations] = substr(text, RSTART, RLENGTH - 1)
        if (sub(/_init_sized\(/, "_init(", text)) {
            sub(/, size_t size/, "", text)
            declaration[++declarations] = text
            names[declarations] = substr(names[declarations - 1], 1, length(names[declarations - 1]) - length("_sized"))
        }
    }
    next
}
documented && joined == "" && declarations > 0 { flush_pages() }
END { flush_pages() }
