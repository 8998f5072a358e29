def test_a_visitor_is_shown_the_login_form(open_page):
    page = open_page(path="/admin/")
    assert page.get_by_label("Password").is_visible()
